# Made by scripts/docs from the usage text. For bash: source it, or put it as "epmd" into
# /usr/share/bash-completion/completions.

# The names are not words for compgen: it would expand what a name holds.
_epmd_nodes() {
    local name
    while IFS= read -r name; do
        [[ $name != "$2"* ]] || COMPREPLY+=("$(printf %q "$name")")
    done < <("$1" "${@:3}" -names 2>/dev/null | sed -n 's/^name \(.*\) at port [0-9]*$/\1/p')
}

_epmd() {
    local word=${COMP_WORDS[COMP_CWORD]} port=() option i
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        option=${COMP_WORDS[i]}
        case $option in
        -names | -dump | -started | -kill | -check | --help | --version | --licences) return ;;
        -address | -port | -allow | -allow_register | -allow_file | -not_local | -user | -idle_exit | -pid_exit | -port_file | -pid_file | -metrics_file | -packet_timeout | -delay_accept | -delay_write | -stop | -host | -accept) ((++i < COMP_CWORD)) || break ;;&
        -port) port=(-port "${COMP_WORDS[i]}") ;;
        -stop) return ;;
        esac
        option=
    done
    case ${option-} in
    "") mapfile -t COMPREPLY < <(compgen -W "-address -port -daemon -relaxed_command_check -systemd -loopback -allow -allow_register -allow_file -takeover -not_local -user -idle_exit -pid_exit -port_file -pid_file -metrics_file -d -debug -packet_timeout -delay_accept -delay_write -names -dump -started -kill -stop -check -host -json -nagios -accept --help --version --licences" -- "$word") ;;
    -port_file | -pid_file | -metrics_file) mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
    -user) mapfile -t COMPREPLY < <(compgen -u -- "$word") ;;
    -host) mapfile -t COMPREPLY < <(compgen -A hostname -- "$word") ;;
    -stop) _epmd_nodes "$1" "$word" "${port[@]}" ;;
    esac
}

complete -F _epmd epmd
