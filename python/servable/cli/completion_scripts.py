"""Scripts for bash, zsh and fish, made from the same words. They need nothing but the shell itself."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from servable.cli.completion_words import FILES, FOLDERS, MODELS, Value, Words

_NAMES = "command servable completion names 2>/dev/null"


def bash(listed: Sequence[Words]) -> str:
    """Returns a script for bash 4 and later, without the package bash-completion."""
    return (
        _BASH.replace("@COMMANDS@", " ".join(_first_words(listed)))
        .replace("@SUBCOMMANDS@", _subcommands(listed))
        .replace("@FLAGS@", "\n".join(_flag_cases(listed)))
        .replace("@VALUES@", "\n".join(_value_cases(listed)))
        .replace("@ARGUMENTS@", "\n".join(_argument_cases(listed)))
        .replace("@NAMES@", _NAMES)
    )


def zsh(listed: Sequence[Words]) -> str:
    """Returns a script for zsh, to be found as ``_servable`` in its ``fpath``."""
    return (
        _ZSH.replace("@COMMANDS@", "\n".join(f"    {_pair(one)}" for one in listed if " " not in one.command))
        .replace("@SUBCOMMANDS@", _subcommands(listed))
        .replace("@FLAGS@", "\n".join(_flag_cases(listed)))
        .replace("@VALUES@", "\n".join(_value_cases(listed)))
        .replace("@ARGUMENTS@", "\n".join(_argument_cases(listed)))
        .replace("@NAMES@", _NAMES)
    )


def fish(listed: Sequence[Words]) -> str:
    """Returns a script for fish."""
    lines = [_FISH.rstrip()]
    for one in listed:
        words = one.command.split()
        seen = f"__servable_at {one.command}"
        if len(words) == 1:
            lines.append(
                f"complete -c servable -n __fish_use_subcommand -a {words[0]} -d {shlex.quote(one.help)}"
            )
        lines += [_fish_flag(seen, flag, value, one.helps.get(flag, "")) for flag, value in one.flags.items()]
        more = _fish_value(one.arguments)
        if more:
            lines.append(f"complete -c servable -n {shlex.quote(seen)} {more}")
    return "\n".join(lines) + "\n"


def _fish_flag(seen: str, flag: str, value: Value | None, help: str) -> str:
    line = f"complete -c servable -n {shlex.quote(seen)} -l {flag.removeprefix('--')}"
    if value is not None:
        line += f" -r {_fish_value(value)}".rstrip()
    return f"{line} -d {shlex.quote(help)}" if help else line


def _fish_value(value: Value) -> str:
    if value.words:
        return f"-f -a {shlex.quote(' '.join(value.words))}"
    return {
        FILES: "-F",
        FOLDERS: "-f -a '(__fish_complete_directories)'",
        MODELS: f"-f -a {shlex.quote(f'({_NAMES})')}",
    }.get(value.kind, "")


# ---- what bash and zsh have in common: cases by the command, and by the command and a flag


def _first_words(listed: Iterable[Words]) -> list[str]:
    return [one.command for one in listed if " " not in one.command]


def _subcommands(listed: Iterable[Words]) -> str:
    return "|".join(f'"{one.command}"' for one in listed if " " in one.command)


def _pair(words: Words) -> str:
    return shlex.quote(f"{words.command}:{words.help}")


def _flag_cases(listed: Iterable[Words]) -> Iterable[str]:
    for one in listed:
        if one.flags:
            flags = " ".join(flag if value is None else f"{flag}=" for flag, value in one.flags.items())
            yield f'        "{one.command}") flags="{flags}" ;;'


def _value_cases(listed: Iterable[Words]) -> Iterable[str]:
    for one in listed:
        by_value: dict[str, list[str]] = {}
        for flag, value in one.flags.items():
            if value is not None:
                by_value.setdefault(_assigned(value), []).append(f'"{one.command} {flag}"')
        for assigned, cases in by_value.items():
            yield f"        {'|'.join(cases)}) {assigned} ;;"


def _argument_cases(listed: Iterable[Words]) -> Iterable[str]:
    for one in listed:
        if one.arguments != Value():
            yield f'        "{one.command}") {_assigned(one.arguments)} ;;'


def _assigned(value: Value) -> str:
    return f'choices="{" ".join(value.words)}"' if value.words else f"kind={value.kind}"


_FISH = """\
# fish completion for servable, made by `servable completion fish`.
function __servable_at
    set -l words (commandline -opc)
    set -e words[1]
    set -l most (count $argv)
    test (count $words) -ge $most; and test "$words[1..$most]" = "$argv"
end
complete -c servable -f
"""

_BASH = r"""# bash completion for servable, made by `servable completion bash`; bash 4.3 and later.
_servable() {
    local line=() word before="" command current flag="" equals="" kind="" choices="" flags=""
    # Words as typed: bash splits them at =, unless COMP_WORDBREAKS has none.
    for word in "${COMP_WORDS[@]:0:COMP_CWORD+1}"; do
        if [[ ${#line[@]} -gt 1 && ${line[-1]} == --* && ( $word == = || $before == = ) ]]; then
            line[-1]+=$word
        else
            line+=("$word")
        fi
        before=$word
    done
    current=${line[-1]}
    unset 'line[-1]'
    COMPREPLY=()
    if ((${#line[@]} < 2)); then
        COMPREPLY=($(compgen -W "@COMMANDS@" -- "$current"))
        return
    fi
    command=${line[1]}
    if ((${#line[@]} > 2)); then
        case "$command ${line[2]}" in
        @SUBCOMMANDS@) command="$command ${line[2]}" ;;
        esac
    fi
    # A value: --flag=VALUE, or --flag VALUE.
    if [[ $current == --*=* ]]; then
        equals=yes
        flag=${current%%=*}
        current=${current#*=}
    elif [[ ${line[-1]} == --* && ${line[-1]} != *=* ]]; then
        flag=${line[-1]}
    fi
    if [[ -n $flag ]]; then
        case "$command $flag" in
@VALUES@
        *)
            [[ -n $equals ]] && return
            flag=""
            ;;
        esac
    fi
    if [[ -z $flag && $current == -* ]]; then
        case "$command" in
@FLAGS@
        esac
        COMPREPLY=($(compgen -W "$flags" -- "$current"))
        [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace
        return
    fi
    if [[ -z $flag ]]; then
        case "$command" in
@ARGUMENTS@
        esac
    fi
    local IFS=$'\n'
    case "$kind" in
    files)
        compopt -o filenames
        COMPREPLY=($(compgen -f -- "$current"))
        ;;
    folders)
        compopt -o filenames
        COMPREPLY=($(compgen -d -- "$current"))
        ;;
    models) COMPREPLY=($(compgen -W "$(@NAMES@)" -- "$current")) ;;
    *)
        IFS=$' \n'
        COMPREPLY=($(compgen -W "$choices" -- "$current"))
        ;;
    esac
    # A word that was not split is replaced whole.
    [[ ${COMP_WORDS[COMP_CWORD]} == --*=* ]] && COMPREPLY=("${COMPREPLY[@]/#/$flag=}")
    return 0
}
complete -F _servable servable
"""

_ZSH = r"""#compdef servable
# zsh completion for servable, made by `servable completion zsh`.
_servable() {
    local command=${words[2]} flag="" equals="" kind="" choices="" flags=""
    local -a described valued plain
    described=(
@COMMANDS@
    )
    if ((CURRENT == 2)); then
        _describe -t commands command described
        return
    fi
    if ((CURRENT > 3)); then
        case "$command ${words[3]}" in
        @SUBCOMMANDS@) command="$command ${words[3]}" ;;
        esac
    fi
    if [[ $PREFIX == --*=* ]]; then
        equals=yes
        flag=${PREFIX%%=*}
        compset -P '*='
    elif [[ ${words[CURRENT-1]} == --* && ${words[CURRENT-1]} != *=* ]]; then
        flag=${words[CURRENT-1]}
    fi
    if [[ -n $flag ]]; then
        case "$command $flag" in
@VALUES@
        *)
            [[ -n $equals ]] && return 1
            flag=""
            ;;
        esac
    fi
    if [[ -z $flag && $PREFIX == -* ]]; then
        case "$command" in
@FLAGS@
        esac
        valued=(${(M)${=flags}:#*=})
        plain=(${${=flags}:#*=})
        compadd -S '' -- $valued
        compadd -- $plain
        return
    fi
    if [[ -z $flag ]]; then
        case "$command" in
@ARGUMENTS@
        esac
    fi
    case "$kind" in
    files) _files ;;
    folders) _files -/ ;;
    models) compadd -- ${(f)"$(@NAMES@)"} ;;
    *) compadd -- ${=choices} ;;
    esac
}
_servable "$@"
"""
