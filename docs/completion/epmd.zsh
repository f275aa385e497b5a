#compdef epmd
# Made by scripts/docs from the usage text. For zsh: put it as "_epmd" into a folder of $fpath.

_epmd_nodes() {
    local -a nodes port
    local where=${words[(I)-port]}
    ((where)) && port=(-port ${words[where + 1]})
    nodes=(${(f)"$($words[1] $port -names 2>/dev/null | sed -n 's/^name \(.*\) at port [0-9]*$/\1/p')"})
    compadd -a nodes
}

_arguments \
    '*-address[Listen on these IP addresses (separated by commas) and on loopback]:List: ' \
    '*-port[The TCP port to serve or to ask]:No: ' \
    '*-daemon[Serve in the background; return once requests are answered]' \
    '*-relaxed_command_check[Allow -kill while nodes are registered, and allow -stop]' \
    '*-systemd[Serve the sockets that systemd passes, and notify systemd when ready]' \
    '*-loopback[Listen on loopback only]' \
    '*-allow[Answer other hosts only if they are in these networks (separated by commas)]:List: ' \
    '*-allow_register[Accept registrations, and requests, from hosts in these networks too]:List: ' \
    '*-allow_file[Read ERL_EPMD_ALLOW and ERL_EPMD_ALLOW_REGISTER from this file of variables, as /etc/default/epmd, and again at SIGHUP, which ends or drops nothing then]:File: ' \
    '*-takeover[Take the place of the epmd that serves the port, C'\''s or this one; its nodes stay registered]' \
    '*-not_local[Treat peers with these addresses of this host (separated by commas) as other hosts, because they are behind a proxy\: 127.0.0.6 is that of a service mesh]:List: ' \
    '*-user[Bind the port as root, drop root privileges, then serve as this user]:Name[\:Group]:_users' \
    '*-idle_exit[Shut down when for this many seconds no node has been registered, and nobody of this host has connected]:Seconds: ' \
    '*-pid_exit[Shut down as soon as one of these processes ends (separated by commas)]:Pids: ' \
    '*-port_file[Write the port to this file once requests are answered, and remove the file at exit; - is stdout]:Path:_files' \
    '*-pid_file[Write the process ID of the server to this file, in the same way]:Path:_files' \
    '*-metrics_file[Write the numbers of nodes, requests and connections to this file every 15 seconds and at exit, for Prometheus]:Path:_files' \
    '*-d[Log each request to stderr, and remember only 5 recently unregistered names]' \
    '*-debug[Log each request to stderr, and remember only 5 recently unregistered names]' \
    '*-packet_timeout[Close a connection whose request is incomplete after this time]:Seconds: ' \
    '*-delay_accept[Simulate a busy server\: wait this long before handling a new connection]:Seconds: ' \
    '*-delay_write[Simulate a busy server\: wait this long before each reply]:Seconds: ' \
    '(- *)-names[List the registered nodes and their ports]' \
    '(- *)-dump[List the registered nodes and recently unregistered names, for debugging]' \
    '(- *)-started[Print nothing; exit with status 0 if an epmd answers, else with status 1]' \
    '(- *)-kill[Shut down the running epmd]' \
    '(- *)-stop[Unregister this node by force]:Name:_epmd_nodes' \
    '(- *)-check[Diagnose this host'\''s epmd and nodes, and print a remedy for each problem]' \
    '*-host[With -names, -started or -check\: ask the epmd of another host]:Host:_hosts' \
    '*-json[With -names, -dump or -check\: print JSON]' \
    '*-nagios[With -check\: print one line, and exit with 0 (ok), 1 (warning), 2 (critical) or 3 (unknown), as a plugin of Nagios does]' \
    '*-accept[With -check\: do not warn of these (separated by commas), as -accept open]:Codes: ' \
    '(- *)--help[Print this text]' \
    '(- *)--version[Print the version]' \
    '(- *)--licences[Print the licences of everything in this epmd]'
