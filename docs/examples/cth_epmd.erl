%% cth_epmd: a Common Test hook.  Each test case has a private epmd, and starts peers on it.  Copy this file to the
%% folder of the suites.  An epmd of gevent-epmd must be on PATH.  For OTP 25 and later.
%%
%%     -module(cluster_SUITE).
%%     -export([suite/0, all/0, two_peers_find_each_other/1]).
%%
%%     suite() -> [{ct_hooks, [cth_epmd]}].
%%     all() -> [two_peers_find_each_other].
%%
%%     two_peers_find_each_other(Config) ->
%%         {One, _} = cth_epmd:start_peer(Config, one),
%%         {_, Two} = cth_epmd:start_peer(Config, two),
%%         pong = peer:call(One, net_adm, ping, [Two]).
%%
%% With rebar3, `{ct_opts, [{ct_hooks, [cth_epmd]}]}.` in rebar.config does it for all suites.
%%
%% A VM reads ERL_EPMD_PORT only when it starts, so the tests' own VM cannot be moved to a private epmd.  That is why the
%% peers are asked through peer:call, over their standard input and output, and not over distribution.
-module(cth_epmd).

-export([start_peer/2, start_peer/3]).
-export([id/1, init/2, pre_init_per_testcase/4, post_init_per_testcase/5, post_end_per_testcase/5]).

-define(PATIENCE, 60000).

%% Starts a peer, which ends with the test case.  Returns what peer:call takes, and the node.
start_peer(Config, Name) -> start_peer(Config, Name, []).

start_peer(Config, Name, Args) ->
    {_, Port} = proplists:get_value(epmd, Config),
    {ok, Peer, Node} = peer:start(#{
        name => Name,
        host => "127.0.0.1",
        longnames => true,
        connection => standard_io,
        wait_boot => ?PATIENCE,
        env => [{"ERL_EPMD_PORT", Port}],
        args => Args ++ ["-start_epmd", "false", "-setcookie", "biscuit", "-pa" | code:get_path()]
    }),
    stop_with(self(), Peer),
    {Peer, Node}.

%% A linked peer would log a crash: Common Test ends a test case by an exit that is not normal, also if it has passed.
stop_with(Case, Peer) ->
    spawn(fun() ->
        Watched = monitor(process, Case),
        receive
            {'DOWN', Watched, _, _, _} -> peer:stop(Peer)
        end
    end).

%% Common Test calls these.

id(_Options) -> ?MODULE.

init(_Id, _Options) -> {ok, none}.

pre_init_per_testcase(_Suite, _Case, Config, State) ->
    case lists:search(fun is_ours/1, candidates()) of
        {value, Epmd} -> start_epmd(Epmd, Config, State);
        false -> {{fail, "no epmd of gevent-epmd is on PATH"}, State}
    end.

%% No end is called for a test case that is skipped, or whose init has failed.
post_init_per_testcase(_Suite, _Case, Config, Return, State) when is_tuple(Return) -> stop_epmd(Config, Return, State);
post_init_per_testcase(_Suite, _Case, _Config, Return, State) -> {Return, State}.

post_end_per_testcase(_Suite, _Case, Config, Return, State) -> stop_epmd(Config, Return, State).

%% At a free port.  It ends with this VM, even if nobody can stop it any more.
start_epmd(Epmd, Config, State) ->
    Name = lists:concat(["epmd.port.", erlang:unique_integer([positive])]),
    File = filename:join(proplists:get_value(priv_dir, Config), Name),
    Private = ["-daemon", "-loopback", "-relaxed_command_check", "-port", "0", "-port_file", File],
    case run(Epmd, Private ++ ["-pid_exit", os:getpid()]) of
        {0, _} -> {[{epmd, {Epmd, port_in(File)}} | Config], State};
        {_, Said} -> {{fail, {Epmd, Said}}, State}
    end.

port_in(File) ->
    {ok, Text} = file:read_file(File),
    string:trim(binary_to_list(Text)).

stop_epmd(Config, Return, State) ->
    case proplists:get_value(epmd, Config) of
        {Epmd, Port} -> run(Epmd, ["-port", Port, "-kill"]);
        undefined -> not_started
    end,
    {Return, State}.

%% The VM puts the folder with C's epmd before everything else on PATH.
candidates() ->
    Paths = [filename:join(Folder, "epmd") || Folder <- string:lexemes(os:getenv("PATH", ""), ":")],
    [Path || Path <- Paths, filelib:is_regular(Path)].

is_ours(Epmd) ->
    case run(Epmd, ["--version"]) of
        {0, "epmd " ++ _} -> true;
        _ -> false
    end.

run(Program, Args) ->
    Running = open_port({spawn_executable, Program}, [{args, Args}, exit_status, stderr_to_stdout]),
    outcome(Running, "").

outcome(Running, Said) ->
    receive
        {Running, {data, More}} -> outcome(Running, Said ++ More);
        {Running, {exit_status, Status}} -> {Status, Said}
    after ?PATIENCE -> error({does_not_end, Running})
    end.
