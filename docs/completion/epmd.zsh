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
    '*-address[Listen on these IP addresses, separated by commas, and on loopback]:List: ' \
    '*-port[The TCP port to serve or to ask]:No: ' \
    '*-daemon[Serve detached from the terminal; return once requests are answered]' \
    '*-relaxed_command_check[Let -kill work while nodes are registered, and let -stop work at all]' \
    '*-systemd[Serve the sockets that systemd hands over, and tell it when ready]' \
    '*-loopback[Listen on loopback only]' \
    '*-allow[Answer other hosts only if they are in these networks, separated by commas]:List: ' \
    '*-allow_register[Let nodes of hosts in these networks register too, and ask]:List: ' \
    '*-user[Started as root\: bind the port, give up all rights of root, serve as this user]:Name[\:Group]:_users' \
    '*-idle_exit[End when no node has been registered for so long]:Seconds: ' \
    '*-pid_exit[End as soon as one of these processes has ended; commas between them]:Pids: ' \
    '*-port_file[Write the port to this file once requests are answered, and remove the file at the end; - is stdout]:Path:_files' \
    '*-pid_file[Write the number of the process that serves to this file, in the same way]:Path:_files' \
    '*-d[Log each request on stderr and remember only 5 names of late nodes]' \
    '*-debug[Log each request on stderr and remember only 5 names of late nodes]' \
    '*-packet_timeout[Close a connection that has not sent its request by then]:Seconds: ' \
    '*-delay_accept[Play a busy server\: wait before a new connection is looked at]:Seconds: ' \
    '*-delay_write[Play a busy server\: wait before each reply]:Seconds: ' \
    '(- *)-names[List the registered nodes and their ports]' \
    '(- *)-dump[The same, with the names of late nodes, for debugging]' \
    '(- *)-started[Say nothing; status 0 if an epmd answers, 1 if none does]' \
    '(- *)-kill[End the running epmd, if no node is registered or its check is relaxed]' \
    '(- *)-stop[Unregister this node by force, if the check is relaxed]:Name:_epmd_nodes' \
    '(- *)-check[Find out what is wrong with this host'\''s epmd and nodes, and what to do about it]' \
    '*-host[With -names, -started or -check\: ask the epmd of another host]:Host:_hosts' \
    '*-json[With -names, -dump or -check\: print JSON]' \
    '(- *)--help[Print this text]' \
    '(- *)--version[Print the version]' \
    '(- *)--licences[Print the licences of all that this epmd is made of]'
