# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_dvx_global_optspecs
    string join \n h/help V/version
end

function __fish_dvx_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_dvx_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_dvx_using_subcommand
    set -l cmd (__fish_dvx_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c dvx -n "__fish_dvx_needs_command" -s h -l help -d 'Print help'
complete -c dvx -n "__fish_dvx_needs_command" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_needs_command" -f -a "dev" -d 'Try everything on this machine: a broker of your own, and a shell in which you are its agent'
complete -c dvx -n "__fish_dvx_needs_command" -f -a "completions" -d 'Print a completion script for a shell'
complete -c dvx -n "__fish_dvx_needs_command" -f -a "man" -d 'Print a manual page'
complete -c dvx -n "__fish_dvx_using_subcommand dev" -l instance-url -d 'The GitLab instance that the token is for: https, or http to loopback' -r
complete -c dvx -n "__fish_dvx_using_subcommand dev" -l token-stdin -d 'Read the token from stdin'
complete -c dvx -n "__fish_dvx_using_subcommand dev" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx -n "__fish_dvx_using_subcommand dev" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand completions" -s h -l help -d 'Print help'
complete -c dvx -n "__fish_dvx_using_subcommand completions" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand man" -s h -l help -d 'Print help'
complete -c dvx -n "__fish_dvx_using_subcommand man" -s V -l version -d 'Print version'
