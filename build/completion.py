"""Prints the shell completion of epmd's command line, made from the usage text: completion.py
bash|zsh|fish."""

from __future__ import annotations

import sys

import usage

BASH = """\
# Made by scripts/docs from the usage text. For bash: source it, or put it as "epmd" into
# /usr/share/bash-completion/completions.

# The names are not words for compgen: it would expand what a name holds.
_epmd_nodes() {
    local name
    while IFS= read -r name; do
        [[ $name != "$2"* ]] || COMPREPLY+=("$(printf %q "$name")")
    done < <("$1" "${@:3}" -names 2>/dev/null | sed -n 's/^name \\(.*\\) at port [0-9]*$/\\1/p')
}

_epmd() {
    local word=${COMP_WORDS[COMP_CWORD]} port=() option i
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        option=${COMP_WORDS[i]}
        case $option in
        NO_VALUE_AND_LAST) return ;;
        WITH_VALUE) ((++i < COMP_CWORD)) || break ;;&
        -port) port=(-port "${COMP_WORDS[i]}") ;;
        VALUE_AND_LAST) return ;;
        esac
        option=
    done
    case ${option-} in
    "") mapfile -t COMPREPLY < <(compgen -W "ALL" -- "$word") ;;
    FILES) mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
    USERS) mapfile -t COMPREPLY < <(compgen -u -- "$word") ;;
    HOSTS) mapfile -t COMPREPLY < <(compgen -A hostname -- "$word") ;;
    NODES) _epmd_nodes "$1" "$word" "${port[@]}" ;;
    esac
}

complete -F _epmd epmd
"""

ZSH = """\
#compdef epmd
# Made by scripts/docs from the usage text. For zsh: put it as "_epmd" into a folder of $fpath.

_epmd_nodes() {
    local -a nodes port
    local where=${words[(I)-port]}
    ((where)) && port=(-port ${words[where + 1]})
    nodes=(${(f)"$($words[1] $port -names 2>/dev/null | sed -n 's/^name \\(.*\\) at port [0-9]*$/\\1/p')"})
    compadd -a nodes
}

_arguments \\
SPECS
"""

FISH = """\
# Made by scripts/docs from the usage text. For fish: put it as "epmd.fish" into ~/.config/fish/completions.

function __epmd_goes_on
    set -l value none
    for word in (commandline -opc)[2..]
        switch "$value $word"
            case "last *"
                return 1
            case "some *"
                set value none
            case "none "NO_VALUE_AND_LAST
                return 1
            case "none "VALUE_AND_LAST
                set value last
            case "none "WITH_VALUE
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
    $words[1] $port -names 2>/dev/null | string replace -rf '^name (.*) at port \\d+$' '$1'
end

complete -c epmd -f
SPECS
"""

#: The options whose values can be completed. Values of other options get no completion.
FILES, USERS, HOSTS, NODES = ("-port_file", "-pid_file", "-metrics_file"), "-user", "-host", "-stop"
_ZSH_VALUES = {USERS: "_users", HOSTS: "_hosts", NODES: "_epmd_nodes", **dict.fromkeys(FILES, "_files")}
_FISH_VALUES = {
    USERS: " -xa '(__fish_complete_users)'",
    HOSTS: " -xa '(__fish_print_hostnames)'",
    NODES: " -xa '(__epmd_nodes)'",
    **dict.fromkeys(FILES, " -rF"),
}


def bash() -> str:
    everything = " ".join(spelling for option in usage.options() for spelling in option.spellings)
    values = {"FILES": " | ".join(FILES), "USERS": USERS, "HOSTS": HOSTS, "NODES": NODES}
    return _filled(BASH, _kinds() | {"ALL": everything} | values)


def _kinds() -> dict[str, str]:
    options = usage.options()
    return {
        "NO_VALUE_AND_LAST": _alternatives(o for o in options if _ends(o) and not o.value),
        "VALUE_AND_LAST": _alternatives(o for o in options if _ends(o) and o.value),
        "WITH_VALUE": _alternatives(o for o in options if o.value),
    }


def _alternatives(options) -> str:
    return " | ".join(spelling for option in options for spelling in option.spellings)


def _ends(option: usage.Option) -> bool:
    return option.spellings[0] in usage.ENDS_THE_LINE


def _filled(template: str, named: dict[str, str]) -> str:
    for name, text in named.items():
        template = template.replace(name, text)
    return template


def zsh() -> str:
    specs = (_zsh_spec(option, spelling) for option in usage.options() for spelling in option.spellings)
    return ZSH.replace("SPECS", " \\\n".join(specs))


def _zsh_spec(option: usage.Option, spelling: str) -> str:
    before = "(- *)" if _ends(option) else "*"
    named = option.value.replace(":", r"\:")
    text = option.in_short.replace(":", r"\:").replace("'", r"'\''")
    value = f":{named}:{_ZSH_VALUES.get(spelling, ' ')}" if named else ""
    return f"    '{before}{spelling}[{text}]{value}'"


def fish() -> str:
    specs = (_fish_spec(option, spelling) for option in usage.options() for spelling in option.spellings)
    # The comma keeps a brace around a single word from being literal.
    kinds = {name: "{" + text.replace(" | ", ",") + ",}" for name, text in _kinds().items()}
    return _filled(FISH, kinds | {"SPECS": "\n".join(specs)})


def _fish_spec(option: usage.Option, spelling: str) -> str:
    name = spelling.lstrip("-")
    kind = "s" if len(name) == 1 else "l" if spelling.startswith("--") else "o"
    value = _FISH_VALUES.get(spelling, " -x") if option.value else ""
    text = option.in_short.replace("'", r"\'")
    return f"complete -c epmd -n __epmd_goes_on -{kind} {name}{value} -d '{text}'"


if __name__ == "__main__":
    sys.stdout.write({"bash": bash, "zsh": zsh, "fish": fish}[sys.argv[1]]())
