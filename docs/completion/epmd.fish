# Made by scripts/docs from the usage text. For fish: put it as "epmd.fish" into ~/.config/fish/completions.

function __epmd_goes_on
    set -l value none
    for word in (commandline -opc)[2..]
        switch "$value $word"
            case "last *"
                return 1
            case "some *"
                set value none
            case "none "{-names,-dump,-started,-kill,-check,--help,--version,--licences,}
                return 1
            case "none "{-stop,}
                set value last
            case "none "{-address,-port,-allow,-allow_register,-allow_file,-not_local,-user,-idle_exit,-pid_exit,-port_file,-pid_file,-metrics_file,-packet_timeout,-delay_accept,-delay_write,-stop,-host,-accept,}
                set value some
        end
    end
    # A value that begins with a dash is no option.
    test $value = none
    or not string match -q -- "-*" (commandline -ct)
end

function __epmd_nodes
    set -l words (commandline -opc)
    set -l port
    if set -l where (contains -i -- -port $words)
        set port $words[$where..(math $where + 1)]
    end
    $words[1] $port -names 2>/dev/null | string replace -rf '^name (.*) at port \d+$' '$1'
end

complete -c epmd -f
complete -c epmd -n __epmd_goes_on -o address -x -d 'Listen on these IP addresses (separated by commas) and on loopback'
complete -c epmd -n __epmd_goes_on -o port -x -d 'The TCP port to serve or to ask'
complete -c epmd -n __epmd_goes_on -o daemon -d 'Serve in the background; return once requests are answered'
complete -c epmd -n __epmd_goes_on -o relaxed_command_check -d 'Allow -kill while nodes are registered, and allow -stop'
complete -c epmd -n __epmd_goes_on -o systemd -d 'Serve the sockets that systemd passes, and notify systemd when ready'
complete -c epmd -n __epmd_goes_on -o loopback -d 'Listen on loopback only'
complete -c epmd -n __epmd_goes_on -o allow -x -d 'Answer other hosts only if they are in these networks (separated by commas)'
complete -c epmd -n __epmd_goes_on -o allow_register -x -d 'Accept registrations, and requests, from hosts in these networks too'
complete -c epmd -n __epmd_goes_on -o allow_file -x -d 'Read ERL_EPMD_ALLOW and ERL_EPMD_ALLOW_REGISTER from this file of variables, as /etc/default/epmd, and again at SIGHUP, which ends or drops nothing then'
complete -c epmd -n __epmd_goes_on -o takeover -d 'Take the place of the epmd that serves the port, C\'s or this one; its nodes stay registered'
complete -c epmd -n __epmd_goes_on -o not_local -x -d 'Treat peers with these addresses of this host (separated by commas) as other hosts, because they are behind a proxy: 127.0.0.6 is that of a service mesh'
complete -c epmd -n __epmd_goes_on -o user -xa '(__fish_complete_users)' -d 'Bind the port as root, drop root privileges, then serve as this user'
complete -c epmd -n __epmd_goes_on -o idle_exit -x -d 'Shut down when for this many seconds no node has been registered, and nobody of this host has connected'
complete -c epmd -n __epmd_goes_on -o pid_exit -x -d 'Shut down as soon as one of these processes ends (separated by commas)'
complete -c epmd -n __epmd_goes_on -o port_file -rF -d 'Write the port to this file once requests are answered, and remove the file at exit; - is stdout'
complete -c epmd -n __epmd_goes_on -o pid_file -rF -d 'Write the process ID of the server to this file, in the same way'
complete -c epmd -n __epmd_goes_on -o metrics_file -rF -d 'Write the numbers of nodes, requests and connections to this file every 15 seconds and at exit, for Prometheus'
complete -c epmd -n __epmd_goes_on -s d -d 'Log each request to stderr, and remember only 5 recently unregistered names'
complete -c epmd -n __epmd_goes_on -o debug -d 'Log each request to stderr, and remember only 5 recently unregistered names'
complete -c epmd -n __epmd_goes_on -o packet_timeout -x -d 'Close a connection whose request is incomplete after this time'
complete -c epmd -n __epmd_goes_on -o delay_accept -x -d 'Simulate a busy server: wait this long before handling a new connection'
complete -c epmd -n __epmd_goes_on -o delay_write -x -d 'Simulate a busy server: wait this long before each reply'
complete -c epmd -n __epmd_goes_on -o names -d 'List the registered nodes and their ports'
complete -c epmd -n __epmd_goes_on -o dump -d 'List the registered nodes and recently unregistered names, for debugging'
complete -c epmd -n __epmd_goes_on -o started -d 'Print nothing; exit with status 0 if an epmd answers, else with status 1'
complete -c epmd -n __epmd_goes_on -o kill -d 'Shut down the running epmd'
complete -c epmd -n __epmd_goes_on -o stop -xa '(__epmd_nodes)' -d 'Unregister this node by force'
complete -c epmd -n __epmd_goes_on -o check -d 'Diagnose this host\'s epmd and nodes, and print a remedy for each problem'
complete -c epmd -n __epmd_goes_on -o host -xa '(__fish_print_hostnames)' -d 'With -names, -started or -check: ask the epmd of another host'
complete -c epmd -n __epmd_goes_on -o json -d 'With -names, -dump or -check: print JSON'
complete -c epmd -n __epmd_goes_on -o nagios -d 'With -check: print one line, and exit with 0 (ok), 1 (warning), 2 (critical) or 3 (unknown), as a plugin of Nagios does'
complete -c epmd -n __epmd_goes_on -o accept -x -d 'With -check: do not warn of these (separated by commas), as -accept open'
complete -c epmd -n __epmd_goes_on -l help -d 'Print this text'
complete -c epmd -n __epmd_goes_on -l version -d 'Print the version'
complete -c epmd -n __epmd_goes_on -l licences -d 'Print the licences of everything in this epmd'
