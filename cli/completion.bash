# bash completion for sonde
_sonde() {
    local cur prev words cword command i
    cur=${COMP_WORDS[COMP_CWORD]}
    prev=${COMP_WORDS[COMP_CWORD - 1]}
    command=${COMP_WORDS[1]}
    if [ "$COMP_CWORD" = 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W 'run report flame leaks list off record replay dump check help --help --version' -- "$cur")
        return
    fi
    case $prev in
    help)
        mapfile -t COMPREPLY < <(compgen -W 'run report flame leaks list off record replay dump check' -- "$cur")
        return
        ;;
    -o | --config)
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
        ;;
    --set)
        mapfile -t COMPREPLY < <(compgen -S = -W "$(sonde check --help 2>/dev/null | sed -n 's/^  \([a-z_]*\.[a-z_0-9]*\) .*/\1/p')" -- "$cur")
        compopt -o nospace
        return
        ;;
    --sort)
        mapfile -t COMPREPLY < <(compgen -W 'count time p99 errors heap kept cpu out' -- "$cur")
        return
        ;;
    --by)
        mapfile -t COMPREPLY < <(compgen -W 'allocated retained live lockwait' -- "$cur")
        return
        ;;
    --format)
        mapfile -t COMPREPLY < <(compgen -W 'collapsed speedscope html' -- "$cur")
        return
        ;;
    --allocator)
        mapfile -t COMPREPLY < <(compgen -W 'jemalloc' -- "$cur")
        return
        ;;
    esac
    case $command in
    run | record)
        for ((i = 2; i < COMP_CWORD; i++)); do
            case ${COMP_WORDS[i]} in
            -o | --to | --config | --name | --set | --allocator) i=$((i + 1)) ;;
            -*) ;;
            *)
                # the watched command completes as if it stood alone
                if declare -F _command_offset >/dev/null; then _command_offset "$i"; fi
                return
                ;;
            esac
        done
        mapfile -t COMPREPLY < <(compgen -W '-o --to --config --name --set --allocator --heap-profile --quiet --exec --strict --help' -- "$cur"; compgen -c -- "$cur")
        ;;
    report) mapfile -t COMPREPLY < <(compgen -W '--json --strict --last --since --sort --top --slowest --memory --cpu --waits --help' -- "$cur"; compgen -f -- "$cur") ;;
    flame) mapfile -t COMPREPLY < <(compgen -W '--by --route --format -o --help' -- "$cur"; compgen -f -- "$cur") ;;
    leaks) mapfile -t COMPREPLY < <(compgen -W '--json --top --help' -- "$cur"; compgen -f -- "$cur") ;;
    replay) mapfile -t COMPREPLY < <(compgen -W '-o --to --config --set --name --quiet --help' -- "$cur"; compgen -f -- "$cur") ;;
    check) mapfile -t COMPREPLY < <(compgen -W '--config --output --set --help' -- "$cur"; compgen -c -- "$cur") ;;
    off) mapfile -t COMPREPLY < <(compgen -W '--undo --help' -- "$cur"; compgen -f -- "$cur") ;;
    list) mapfile -t COMPREPLY < <(compgen -W '--help' -- "$cur") ;;
    dump) mapfile -t COMPREPLY < <(compgen -W '--help' -- "$cur"; compgen -f -- "$cur") ;;
    *) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
    esac
}
complete -F _sonde sonde
