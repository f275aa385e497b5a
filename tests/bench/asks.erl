%% Asks an epmd with Erlang's own client, the module erl_epmd of the application kernel.
%%
%% Started by bench.erlang as `erl ... -run asks main`. Each line of its input is a plan: KIND AT_ONCE MILLISECONDS
%% NODES. It answers each with a line: how many requests were answered, the microseconds that all took together,
%% and the median and the 99th percentile of the time of one request, in microseconds. A reply that is not the
%% expected one ends the node with status 1.
-module(asks).
-export([main/0]).

main() ->
    case io:get_line("") of
        eof ->
            halt(0);
        Line ->
            [Kind, AtOnce, Milliseconds, Nodes] = string:lexemes(string:trim(Line), " "),
            Numbers = [list_to_integer(Text) || Text <- [AtOnce, Milliseconds, Nodes]],
            try apply(fun ask/4, [list_to_atom(Kind) | Numbers]) of
                Answer -> io:format("~b ~b ~b ~b~n", Answer)
            catch
                _:Reason -> io:format("wrong reply: ~0p~n", [Reason]), halt(1)
            end,
            main()
    end.

ask(Kind, AtOnce, Milliseconds, Nodes) ->
    Start = now_us(),
    End = Start + Milliseconds * 1000,
    Workers = [spawn_monitor(fun() -> exit({done, work(Kind, Worker, 0, Nodes, End, [])}) end)
               || Worker <- lists:seq(1, AtOnce)],
    Took = lists:append([await(Worker) || Worker <- Workers]),
    All = now_us() - Start,
    Sorted = lists:sort(Took),
    Count = length(Sorted),
    [Count, All, lists:nth(1 + Count div 2, Sorted), lists:nth(1 + Count * 99 div 100, Sorted)].

await({Pid, Reference}) ->
    receive
        {'DOWN', Reference, process, Pid, {done, Took}} -> Took;
        {'DOWN', Reference, process, Pid, Reason} -> error(Reason)
    end.

work(Kind, Worker, Number, Nodes, End, Took) ->
    case now_us() of
        Start when Start < End ->
            request(Kind, Worker, Number, Nodes),
            work(Kind, Worker, Number + 1, Nodes, End, [now_us() - Start | Took]);
        _ ->
            Took
    end.

%% The nodes are those of bench.held, and so are their names and ports.
request(lookup, Worker, Number, Nodes) ->
    Node = (Worker + Number * 7919) rem Nodes,
    Port = 20000 + Node,
    {port, Port, _} = erl_epmd:port_please(node_name("held", Node), host(Number));
request(unknown, _, Number, _) ->
    noport = erl_epmd:port_please(node_name("none", Number), host(Number));
request(names, _, Number, Nodes) ->
    {ok, Names} = erl_epmd:names(host(Number)),
    Nodes = length(Names);
request(register, Worker, Number, _) ->
    %% A server process of erl_epmd registers one node; that of the application has the name erl_epmd.
    {ok, Server} = gen_server:start(erl_epmd, [], []),
    Name = node_name("new", Worker * 64 + Number rem 64),
    {ok, _} = gen_server:call(Server, {register, Name, 4711, inet}, infinity),
    ok = gen_server:call(Server, stop).

%% Between one pair of addresses, many connections in TIME_WAIT make it slow to find a free port.
host(Number) ->
    {127, 0, 0, 1 + Number rem 250}.

node_name(Kind, Number) ->
    lists:flatten(io_lib:format("~s-~5..0b@bench", [Kind, Number])).

now_us() ->
    erlang:monotonic_time(microsecond).
