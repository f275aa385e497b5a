%% Registers a node with the epmd of another host, and asks that one for every node.  For containers that share
%% one epmd, which lets them by -allow_register:
%%
%%     erlc shared_epmd.erl
%%     erl -name a@10.0.0.2 -start_epmd false -pa . -epmd_module shared_epmd -shared_epmd 10.0.0.1
%%
%% Nodes are known by what is before the @, so two containers need two names there.
-module(shared_epmd).
-behaviour(gen_server).

-export([start_link/0, register_node/2, register_node/3, port_please/2, port_please/3, address_please/3,
         listen_port_please/2, names/0, names/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-define(ALIVE2_REQ, 120).
-define(ALIVE2_X_RESP, 118).
%% A node that is not hidden, over IPv4 or IPv6; the newest and the oldest version of the protocol.
-define(KIND, 77, 0, 6:16, 5:16).
%% In milliseconds.
-define(PATIENCE, 10000).
-define(TRY_AGAIN_AFTER, 2000).

start_link() -> gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

register_node(Name, Port) -> register_node(Name, Port, inet).
register_node(Name, Port, _Driver) -> gen_server:call(?MODULE, {register, Name, Port}, infinity).

port_please(Name, Host) -> port_please(Name, Host, infinity).
port_please(Name, _Host, Timeout) -> erl_epmd:port_please(Name, epmd(), Timeout).

address_please(Name, Host, Family) -> erl_epmd:address_please(Name, Host, Family).
listen_port_please(Name, Host) -> erl_epmd:listen_port_please(Name, Host).

names() -> erl_epmd:names(epmd()).
names(_Host) -> names().

%% An IP address: a node registers before it can look up names.
epmd() ->
    {ok, [[Text]]} = init:get_argument(shared_epmd),
    {ok, Address} = inet:parse_address(Text),
    Address.

%% What ERL_EPMD_PORT says.
epmd_port() ->
    case init:get_argument(epmd_port) of
        {ok, [[Port | _] | _]} -> list_to_integer(Port);
        error -> 4369
    end.

%% The registration lives as long as its connection; when that is lost, as when the epmd is started again, the
%% node registers anew.
init([]) -> {ok, none}.

handle_call({register, Name, Port}, _From, _State) ->
    case alive(Name, Port) of
        {ok, Socket, Creation} -> {reply, {ok, Creation}, {Socket, Name, Port}};
        {error, _} = Error -> {reply, Error, none}
    end.

handle_cast(_, State) -> {noreply, State}.

handle_info({tcp_closed, Socket}, {Socket, Name, Port}) -> register_again(Name, Port);
handle_info({tcp_error, Socket, _}, {Socket, Name, Port}) -> register_again(Name, Port);
handle_info(register_again, {_, Name, Port}) -> register_again(Name, Port);
handle_info(_, State) -> {noreply, State}.

register_again(Name, Port) ->
    case alive(Name, Port) of
        {ok, Socket, _Creation} ->
            {noreply, {Socket, Name, Port}};
        {error, _} ->
            erlang:send_after(?TRY_AGAIN_AFTER, self(), register_again),
            {noreply, {none, Name, Port}}
    end.

alive(Name, Port) ->
    %% With keepalive a firewall does not forget the connection, and an epmd that is gone is missed.
    Options = [binary, {packet, 0}, {active, false}, {keepalive, true}],
    case gen_tcp:connect(epmd(), epmd_port(), Options, ?PATIENCE) of
        {ok, Socket} -> alive(Socket, unicode:characters_to_binary(lists:concat([Name])), Port);
        {error, _} = Error -> Error
    end.

alive(Socket, Name, Port) ->
    Size = byte_size(Name),
    Request = <<?ALIVE2_REQ, Port:16, ?KIND, Size:16, Name/binary, 0:16>>,
    Sent = gen_tcp:send(Socket, [<<(byte_size(Request)):16>>, Request]),
    case Sent =:= ok andalso gen_tcp:recv(Socket, 6, ?PATIENCE) of
        {ok, <<?ALIVE2_X_RESP, 0, Creation:32>>} ->
            ok = inet:setopts(Socket, [{active, true}]),
            {ok, Socket, Creation};
        Refused ->
            gen_tcp:close(Socket),
            {error, refused(Refused)}
    end.

refused({ok, _}) -> duplicate_name;
refused(_) -> epmd_close.
