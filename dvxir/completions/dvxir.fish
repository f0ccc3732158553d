# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_dvxir_global_optspecs
    string join \n h/help V/version
end

function __fish_dvxir_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_dvxir_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_dvxir_using_subcommand
    set -l cmd (__fish_dvxir_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c dvxir -n "__fish_dvxir_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvxir -n "__fish_dvxir_needs_command" -s V -l version -d 'Print version'
complete -c dvxir -n "__fish_dvxir_needs_command" -f -a "credentials" -d 'Tokens of linked providers'
complete -c dvxir -n "__fish_dvxir_needs_command" -f -a "secrets" -d 'Values that were stored for this agent'
complete -c dvxir -n "__fish_dvxir_needs_command" -f -a "git-credential" -d 'Git\'s credential helper; git runs it'
complete -c dvxir -n "__fish_dvxir_needs_command" -f -a "init" -d 'Set up this agent\'s account: token link, git, environment'
complete -c dvxir -n "__fish_dvxir_needs_command" -f -a "exec" -d 'Run a command with tokens in its environment'
complete -c dvxir -n "__fish_dvxir_needs_command" -f -a "whoami" -d 'Who this caller is to the broker'
complete -c dvxir -n "__fish_dvxir_needs_command" -f -a "status" -d 'Whether the broker is up, and how fresh what it serves is'
complete -c dvxir -n "__fish_dvxir_needs_command" -f -a "completions" -d 'Print a shell\'s completions'
complete -c dvxir -n "__fish_dvxir_needs_command" -f -a "man" -d 'Print a manual page in troff'
complete -c dvxir -n "__fish_dvxir_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c dvxir -n "__fish_dvxir_using_subcommand credentials; and not __fish_seen_subcommand_from list get help" -s h -l help -d 'Print help'
complete -c dvxir -n "__fish_dvxir_using_subcommand credentials; and not __fish_seen_subcommand_from list get help" -f -a "list" -d 'List the linked providers: provider, kind of token, name at the provider'
complete -c dvxir -n "__fish_dvxir_using_subcommand credentials; and not __fish_seen_subcommand_from list get help" -f -a "get" -d 'Print a provider\'s token as it is, without a newline'
complete -c dvxir -n "__fish_dvxir_using_subcommand credentials; and not __fish_seen_subcommand_from list get help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c dvxir -n "__fish_dvxir_using_subcommand credentials; and __fish_seen_subcommand_from list" -s o -l output -d 'Output format: columns, or what the broker said' -r -f -a "table\t''
json\t''"
complete -c dvxir -n "__fish_dvxir_using_subcommand credentials; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c dvxir -n "__fish_dvxir_using_subcommand credentials; and __fish_seen_subcommand_from get" -s h -l help -d 'Print help'
complete -c dvxir -n "__fish_dvxir_using_subcommand credentials; and __fish_seen_subcommand_from help" -f -a "list" -d 'List the linked providers: provider, kind of token, name at the provider'
complete -c dvxir -n "__fish_dvxir_using_subcommand credentials; and __fish_seen_subcommand_from help" -f -a "get" -d 'Print a provider\'s token as it is, without a newline'
complete -c dvxir -n "__fish_dvxir_using_subcommand credentials; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c dvxir -n "__fish_dvxir_using_subcommand secrets; and not __fish_seen_subcommand_from list get help" -s h -l help -d 'Print help'
complete -c dvxir -n "__fish_dvxir_using_subcommand secrets; and not __fish_seen_subcommand_from list get help" -f -a "list" -d 'List the names of this agent\'s secrets'
complete -c dvxir -n "__fish_dvxir_using_subcommand secrets; and not __fish_seen_subcommand_from list get help" -f -a "get" -d 'Print a secret\'s value as it is, without a newline'
complete -c dvxir -n "__fish_dvxir_using_subcommand secrets; and not __fish_seen_subcommand_from list get help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c dvxir -n "__fish_dvxir_using_subcommand secrets; and __fish_seen_subcommand_from list" -s o -l output -d 'Output format: columns, or what the broker said' -r -f -a "table\t''
json\t''"
complete -c dvxir -n "__fish_dvxir_using_subcommand secrets; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c dvxir -n "__fish_dvxir_using_subcommand secrets; and __fish_seen_subcommand_from get" -s h -l help -d 'Print help'
complete -c dvxir -n "__fish_dvxir_using_subcommand secrets; and __fish_seen_subcommand_from help" -f -a "list" -d 'List the names of this agent\'s secrets'
complete -c dvxir -n "__fish_dvxir_using_subcommand secrets; and __fish_seen_subcommand_from help" -f -a "get" -d 'Print a secret\'s value as it is, without a newline'
complete -c dvxir -n "__fish_dvxir_using_subcommand secrets; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c dvxir -n "__fish_dvxir_using_subcommand git-credential" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvxir -n "__fish_dvxir_using_subcommand init" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvxir -n "__fish_dvxir_using_subcommand exec" -l env -d 'Put this provider\'s token into this variable; may be given several times [default: GITLAB_TOKEN=gitlab]' -r
complete -c dvxir -n "__fish_dvxir_using_subcommand exec" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvxir -n "__fish_dvxir_using_subcommand whoami" -s o -l output -d 'Output format: columns, or what the broker said' -r -f -a "table\t''
json\t''"
complete -c dvxir -n "__fish_dvxir_using_subcommand whoami" -s h -l help -d 'Print help'
complete -c dvxir -n "__fish_dvxir_using_subcommand status" -s o -l output -d 'Output format: columns, or what the broker said' -r -f -a "table\t''
json\t''"
complete -c dvxir -n "__fish_dvxir_using_subcommand status" -s h -l help -d 'Print help'
complete -c dvxir -n "__fish_dvxir_using_subcommand completions" -s h -l help -d 'Print help'
complete -c dvxir -n "__fish_dvxir_using_subcommand man" -s h -l help -d 'Print help'
complete -c dvxir -n "__fish_dvxir_using_subcommand help; and not __fish_seen_subcommand_from credentials secrets git-credential init exec whoami status completions man help" -f -a "credentials" -d 'Tokens of linked providers'
complete -c dvxir -n "__fish_dvxir_using_subcommand help; and not __fish_seen_subcommand_from credentials secrets git-credential init exec whoami status completions man help" -f -a "secrets" -d 'Values that were stored for this agent'
complete -c dvxir -n "__fish_dvxir_using_subcommand help; and not __fish_seen_subcommand_from credentials secrets git-credential init exec whoami status completions man help" -f -a "git-credential" -d 'Git\'s credential helper; git runs it'
complete -c dvxir -n "__fish_dvxir_using_subcommand help; and not __fish_seen_subcommand_from credentials secrets git-credential init exec whoami status completions man help" -f -a "init" -d 'Set up this agent\'s account: token link, git, environment'
complete -c dvxir -n "__fish_dvxir_using_subcommand help; and not __fish_seen_subcommand_from credentials secrets git-credential init exec whoami status completions man help" -f -a "exec" -d 'Run a command with tokens in its environment'
complete -c dvxir -n "__fish_dvxir_using_subcommand help; and not __fish_seen_subcommand_from credentials secrets git-credential init exec whoami status completions man help" -f -a "whoami" -d 'Who this caller is to the broker'
complete -c dvxir -n "__fish_dvxir_using_subcommand help; and not __fish_seen_subcommand_from credentials secrets git-credential init exec whoami status completions man help" -f -a "status" -d 'Whether the broker is up, and how fresh what it serves is'
complete -c dvxir -n "__fish_dvxir_using_subcommand help; and not __fish_seen_subcommand_from credentials secrets git-credential init exec whoami status completions man help" -f -a "completions" -d 'Print a shell\'s completions'
complete -c dvxir -n "__fish_dvxir_using_subcommand help; and not __fish_seen_subcommand_from credentials secrets git-credential init exec whoami status completions man help" -f -a "man" -d 'Print a manual page in troff'
complete -c dvxir -n "__fish_dvxir_using_subcommand help; and not __fish_seen_subcommand_from credentials secrets git-credential init exec whoami status completions man help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c dvxir -n "__fish_dvxir_using_subcommand help; and __fish_seen_subcommand_from credentials" -f -a "list" -d 'List the linked providers: provider, kind of token, name at the provider'
complete -c dvxir -n "__fish_dvxir_using_subcommand help; and __fish_seen_subcommand_from credentials" -f -a "get" -d 'Print a provider\'s token as it is, without a newline'
complete -c dvxir -n "__fish_dvxir_using_subcommand help; and __fish_seen_subcommand_from secrets" -f -a "list" -d 'List the names of this agent\'s secrets'
complete -c dvxir -n "__fish_dvxir_using_subcommand help; and __fish_seen_subcommand_from secrets" -f -a "get" -d 'Print a secret\'s value as it is, without a newline'
