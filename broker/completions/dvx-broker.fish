# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_dvx_broker_global_optspecs
    string join \n h/help V/version
end

function __fish_dvx_broker_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_dvx_broker_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_dvx_broker_using_subcommand
    set -l cmd (__fish_dvx_broker_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c dvx-broker -n "__fish_dvx_broker_needs_command" -s h -l help -d 'Print help'
complete -c dvx-broker -n "__fish_dvx_broker_needs_command" -s V -l version -d 'Print version'
complete -c dvx-broker -n "__fish_dvx_broker_needs_command" -f -a "run" -d 'Serve until told to stop'
complete -c dvx-broker -n "__fish_dvx_broker_needs_command" -f -a "check" -d 'Say whether a configuration is sound'
complete -c dvx-broker -n "__fish_dvx_broker_needs_command" -f -a "status" -d 'Show what a running broker serves, and how fresh it is'
complete -c dvx-broker -n "__fish_dvx_broker_needs_command" -f -a "audit" -d 'Look after audit logs'
complete -c dvx-broker -n "__fish_dvx_broker_needs_command" -f -a "completions" -d 'Print a shell\'s completions'
complete -c dvx-broker -n "__fish_dvx_broker_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c dvx-broker -n "__fish_dvx_broker_using_subcommand run" -l config -d 'The configuration' -r -F
complete -c dvx-broker -n "__fish_dvx_broker_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx-broker -n "__fish_dvx_broker_using_subcommand check" -l config -d 'The configuration' -r -F
complete -c dvx-broker -n "__fish_dvx_broker_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx-broker -n "__fish_dvx_broker_using_subcommand status" -l config -d 'The configuration that names the admin socket' -r -F
complete -c dvx-broker -n "__fish_dvx_broker_using_subcommand status" -l socket -d 'The admin socket itself' -r -F
complete -c dvx-broker -n "__fish_dvx_broker_using_subcommand status" -s o -l output -d 'How to print the answer' -r -f -a "table\t''
json\t''"
complete -c dvx-broker -n "__fish_dvx_broker_using_subcommand status" -s h -l help -d 'Print help'
complete -c dvx-broker -n "__fish_dvx_broker_using_subcommand audit; and not __fish_seen_subcommand_from verify help" -s h -l help -d 'Print help'
complete -c dvx-broker -n "__fish_dvx_broker_using_subcommand audit; and not __fish_seen_subcommand_from verify help" -f -a "verify" -d 'Check that nothing is missing from audit logs and nothing was changed'
complete -c dvx-broker -n "__fish_dvx_broker_using_subcommand audit; and not __fish_seen_subcommand_from verify help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c dvx-broker -n "__fish_dvx_broker_using_subcommand audit; and __fish_seen_subcommand_from verify" -s o -l output -d 'How to print the answer' -r -f -a "table\t''
json\t''"
complete -c dvx-broker -n "__fish_dvx_broker_using_subcommand audit; and __fish_seen_subcommand_from verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx-broker -n "__fish_dvx_broker_using_subcommand audit; and __fish_seen_subcommand_from help" -f -a "verify" -d 'Check that nothing is missing from audit logs and nothing was changed'
complete -c dvx-broker -n "__fish_dvx_broker_using_subcommand audit; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c dvx-broker -n "__fish_dvx_broker_using_subcommand completions" -s h -l help -d 'Print help'
complete -c dvx-broker -n "__fish_dvx_broker_using_subcommand help; and not __fish_seen_subcommand_from run check status audit completions help" -f -a "run" -d 'Serve until told to stop'
complete -c dvx-broker -n "__fish_dvx_broker_using_subcommand help; and not __fish_seen_subcommand_from run check status audit completions help" -f -a "check" -d 'Say whether a configuration is sound'
complete -c dvx-broker -n "__fish_dvx_broker_using_subcommand help; and not __fish_seen_subcommand_from run check status audit completions help" -f -a "status" -d 'Show what a running broker serves, and how fresh it is'
complete -c dvx-broker -n "__fish_dvx_broker_using_subcommand help; and not __fish_seen_subcommand_from run check status audit completions help" -f -a "audit" -d 'Look after audit logs'
complete -c dvx-broker -n "__fish_dvx_broker_using_subcommand help; and not __fish_seen_subcommand_from run check status audit completions help" -f -a "completions" -d 'Print a shell\'s completions'
complete -c dvx-broker -n "__fish_dvx_broker_using_subcommand help; and not __fish_seen_subcommand_from run check status audit completions help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c dvx-broker -n "__fish_dvx_broker_using_subcommand help; and __fish_seen_subcommand_from audit" -f -a "verify" -d 'Check that nothing is missing from audit logs and nothing was changed'
