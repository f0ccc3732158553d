# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_dvx_control_global_optspecs
    string join \n h/help V/version
end

function __fish_dvx_control_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_dvx_control_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_dvx_control_using_subcommand
    set -l cmd (__fish_dvx_control_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c dvx-control -n "__fish_dvx_control_needs_command" -s h -l help -d 'Print help'
complete -c dvx-control -n "__fish_dvx_control_needs_command" -s V -l version -d 'Print version'
complete -c dvx-control -n "__fish_dvx_control_needs_command" -f -a "serve" -d 'Serve until told to stop'
complete -c dvx-control -n "__fish_dvx_control_needs_command" -f -a "init" -d 'Make the key, the database and the first admin'
complete -c dvx-control -n "__fish_dvx_control_needs_command" -f -a "rekey" -d 'Replace the key-encryption key while serving'
complete -c dvx-control -n "__fish_dvx_control_needs_command" -f -a "check" -d 'Say whether a configuration is sound'
complete -c dvx-control -n "__fish_dvx_control_needs_command" -f -a "completions" -d 'Print a shell\'s completions'
complete -c dvx-control -n "__fish_dvx_control_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c dvx-control -n "__fish_dvx_control_using_subcommand serve" -l config -d 'The configuration' -r -F
complete -c dvx-control -n "__fish_dvx_control_using_subcommand serve" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx-control -n "__fish_dvx_control_using_subcommand init" -l config -d 'The configuration' -r -F
complete -c dvx-control -n "__fish_dvx_control_using_subcommand init" -l organisation -d 'The organisation to make' -r
complete -c dvx-control -n "__fish_dvx_control_using_subcommand init" -s o -l output -d 'How to print the answer' -r -f -a "table\t''
json\t''"
complete -c dvx-control -n "__fish_dvx_control_using_subcommand init" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx-control -n "__fish_dvx_control_using_subcommand rekey" -l config -d 'The configuration' -r -F
complete -c dvx-control -n "__fish_dvx_control_using_subcommand rekey" -l new-kek-file -d 'The file with the new key: 32 bytes in base64, readable by its owner alone' -r -F
complete -c dvx-control -n "__fish_dvx_control_using_subcommand rekey" -s o -l output -d 'How to print the answer' -r -f -a "table\t''
json\t''"
complete -c dvx-control -n "__fish_dvx_control_using_subcommand rekey" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx-control -n "__fish_dvx_control_using_subcommand check" -l config -d 'The configuration' -r -F
complete -c dvx-control -n "__fish_dvx_control_using_subcommand check" -s o -l output -d 'How to print the answer' -r -f -a "table\t''
json\t''"
complete -c dvx-control -n "__fish_dvx_control_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx-control -n "__fish_dvx_control_using_subcommand completions" -s h -l help -d 'Print help'
complete -c dvx-control -n "__fish_dvx_control_using_subcommand help; and not __fish_seen_subcommand_from serve init rekey check completions help" -f -a "serve" -d 'Serve until told to stop'
complete -c dvx-control -n "__fish_dvx_control_using_subcommand help; and not __fish_seen_subcommand_from serve init rekey check completions help" -f -a "init" -d 'Make the key, the database and the first admin'
complete -c dvx-control -n "__fish_dvx_control_using_subcommand help; and not __fish_seen_subcommand_from serve init rekey check completions help" -f -a "rekey" -d 'Replace the key-encryption key while serving'
complete -c dvx-control -n "__fish_dvx_control_using_subcommand help; and not __fish_seen_subcommand_from serve init rekey check completions help" -f -a "check" -d 'Say whether a configuration is sound'
complete -c dvx-control -n "__fish_dvx_control_using_subcommand help; and not __fish_seen_subcommand_from serve init rekey check completions help" -f -a "completions" -d 'Print a shell\'s completions'
complete -c dvx-control -n "__fish_dvx_control_using_subcommand help; and not __fish_seen_subcommand_from serve init rekey check completions help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
