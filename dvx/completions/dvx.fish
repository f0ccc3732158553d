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

complete -c dvx -n "__fish_dvx_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx -n "__fish_dvx_needs_command" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_needs_command" -f -a "dev" -d 'Try everything on this machine: a control plane and a broker of your own, and a shell in which you are an agent'
complete -c dvx -n "__fish_dvx_needs_command" -f -a "login" -d 'Remember which control plane to use, and who to be there'
complete -c dvx -n "__fish_dvx_needs_command" -f -a "whoami" -d 'Who this caller is to the control plane'
complete -c dvx -n "__fish_dvx_needs_command" -f -a "status" -d 'One screen: the control plane, its enclaves, and the agents that need a look'
complete -c dvx -n "__fish_dvx_needs_command" -f -a "enclave" -d 'Enclaves: where agents run, each with a broker'
complete -c dvx -n "__fish_dvx_needs_command" -f -a "operator" -d 'Operators: who may do what here'
complete -c dvx -n "__fish_dvx_needs_command" -f -a "agent" -d 'Agents, their secrets and integrations'
complete -c dvx -n "__fish_dvx_needs_command" -f -a "secret" -d 'Secrets of the whole organisation'
complete -c dvx -n "__fish_dvx_needs_command" -f -a "credential-provider" -d 'Credential providers: privileged identities that make one for each agent'
complete -c dvx -n "__fish_dvx_needs_command" -f -a "audit" -d 'What happened: actions of operators, decisions of brokers'
complete -c dvx -n "__fish_dvx_needs_command" -f -a "completions" -d 'Print a completion script for a shell'
complete -c dvx -n "__fish_dvx_needs_command" -f -a "man" -d 'Print a manual page'
complete -c dvx -n "__fish_dvx_using_subcommand dev" -l instance-url -d 'The GitLab instance that the token is for: https, or http to loopback' -r
complete -c dvx -n "__fish_dvx_using_subcommand dev" -l token-stdin -d 'Read the token from stdin'
complete -c dvx -n "__fish_dvx_using_subcommand dev" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx -n "__fish_dvx_using_subcommand dev" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand login" -l url -d 'The control plane: https://host[:port] or unix:///path' -r
complete -c dvx -n "__fish_dvx_using_subcommand login" -l ca-file -d 'Certificates (PEM) to trust besides the system\'s' -r -F
complete -c dvx -n "__fish_dvx_using_subcommand login" -s o -l output -d 'How to print the answer' -r -f -a "table\t'For people'
json\t'For programs; lists are arrays'"
complete -c dvx -n "__fish_dvx_using_subcommand login" -l token-stdin -d 'Read the token from stdin'
complete -c dvx -n "__fish_dvx_using_subcommand login" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx -n "__fish_dvx_using_subcommand login" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand whoami" -s o -l output -d 'How to print the answer' -r -f -a "table\t'For people'
json\t'For programs; lists are arrays'"
complete -c dvx -n "__fish_dvx_using_subcommand whoami" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx -n "__fish_dvx_using_subcommand whoami" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand status" -s o -l output -d 'How to print the answer' -r -f -a "table\t'For people'
json\t'For programs; lists are arrays'"
complete -c dvx -n "__fish_dvx_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx -n "__fish_dvx_using_subcommand status" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand enclave; and not __fish_seen_subcommand_from create list delete" -s o -l output -d 'How to print the answer' -r -f -a "table\t'For people'
json\t'For programs; lists are arrays'"
complete -c dvx -n "__fish_dvx_using_subcommand enclave; and not __fish_seen_subcommand_from create list delete" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx -n "__fish_dvx_using_subcommand enclave; and not __fish_seen_subcommand_from create list delete" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand enclave; and not __fish_seen_subcommand_from create list delete" -f -a "create" -d 'Add an enclave, and print the key that its broker authenticates with'
complete -c dvx -n "__fish_dvx_using_subcommand enclave; and not __fish_seen_subcommand_from create list delete" -f -a "list" -d 'List the enclaves: connected, how many changes behind, last seen'
complete -c dvx -n "__fish_dvx_using_subcommand enclave; and not __fish_seen_subcommand_from create list delete" -f -a "delete" -d 'Delete an enclave with its agents and their secrets; its broker is cut off at once'
complete -c dvx -n "__fish_dvx_using_subcommand enclave; and __fish_seen_subcommand_from create" -s o -l output -d 'How to print the answer' -r -f -a "table\t'For people'
json\t'For programs; lists are arrays'"
complete -c dvx -n "__fish_dvx_using_subcommand enclave; and __fish_seen_subcommand_from create" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx -n "__fish_dvx_using_subcommand enclave; and __fish_seen_subcommand_from create" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand enclave; and __fish_seen_subcommand_from list" -s o -l output -d 'How to print the answer' -r -f -a "table\t'For people'
json\t'For programs; lists are arrays'"
complete -c dvx -n "__fish_dvx_using_subcommand enclave; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx -n "__fish_dvx_using_subcommand enclave; and __fish_seen_subcommand_from list" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand enclave; and __fish_seen_subcommand_from delete" -s o -l output -d 'How to print the answer' -r -f -a "table\t'For people'
json\t'For programs; lists are arrays'"
complete -c dvx -n "__fish_dvx_using_subcommand enclave; and __fish_seen_subcommand_from delete" -s y -l yes -d 'Do not ask; without a terminal nothing is asked anyway'
complete -c dvx -n "__fish_dvx_using_subcommand enclave; and __fish_seen_subcommand_from delete" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx -n "__fish_dvx_using_subcommand enclave; and __fish_seen_subcommand_from delete" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand operator; and not __fish_seen_subcommand_from create list delete" -s o -l output -d 'How to print the answer' -r -f -a "table\t'For people'
json\t'For programs; lists are arrays'"
complete -c dvx -n "__fish_dvx_using_subcommand operator; and not __fish_seen_subcommand_from create list delete" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx -n "__fish_dvx_using_subcommand operator; and not __fish_seen_subcommand_from create list delete" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand operator; and not __fish_seen_subcommand_from create list delete" -f -a "create" -d 'Add an operator, and print the token that it authenticates with'
complete -c dvx -n "__fish_dvx_using_subcommand operator; and not __fish_seen_subcommand_from create list delete" -f -a "list" -d 'List the operators'
complete -c dvx -n "__fish_dvx_using_subcommand operator; and not __fish_seen_subcommand_from create list delete" -f -a "delete" -d 'Delete an operator; its token is dead at once'
complete -c dvx -n "__fish_dvx_using_subcommand operator; and __fish_seen_subcommand_from create" -l role -d 'auditor reads everything but values; operator also writes all but operators and enclaves; admin all' -r
complete -c dvx -n "__fish_dvx_using_subcommand operator; and __fish_seen_subcommand_from create" -s o -l output -d 'How to print the answer' -r -f -a "table\t'For people'
json\t'For programs; lists are arrays'"
complete -c dvx -n "__fish_dvx_using_subcommand operator; and __fish_seen_subcommand_from create" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx -n "__fish_dvx_using_subcommand operator; and __fish_seen_subcommand_from create" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand operator; and __fish_seen_subcommand_from list" -s o -l output -d 'How to print the answer' -r -f -a "table\t'For people'
json\t'For programs; lists are arrays'"
complete -c dvx -n "__fish_dvx_using_subcommand operator; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx -n "__fish_dvx_using_subcommand operator; and __fish_seen_subcommand_from list" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand operator; and __fish_seen_subcommand_from delete" -s o -l output -d 'How to print the answer' -r -f -a "table\t'For people'
json\t'For programs; lists are arrays'"
complete -c dvx -n "__fish_dvx_using_subcommand operator; and __fish_seen_subcommand_from delete" -s y -l yes -d 'Do not ask; without a terminal nothing is asked anyway'
complete -c dvx -n "__fish_dvx_using_subcommand operator; and __fish_seen_subcommand_from delete" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx -n "__fish_dvx_using_subcommand operator; and __fish_seen_subcommand_from delete" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and not __fish_seen_subcommand_from create list get delete isolate restore revoke reprovision secret integration" -s o -l output -d 'How to print the answer' -r -f -a "table\t'For people'
json\t'For programs; lists are arrays'"
complete -c dvx -n "__fish_dvx_using_subcommand agent; and not __fish_seen_subcommand_from create list get delete isolate restore revoke reprovision secret integration" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and not __fish_seen_subcommand_from create list get delete isolate restore revoke reprovision secret integration" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and not __fish_seen_subcommand_from create list get delete isolate restore revoke reprovision secret integration" -f -a "create" -d 'Add an agent: a Unix user of an enclave'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and not __fish_seen_subcommand_from create list get delete isolate restore revoke reprovision secret integration" -f -a "list" -d 'List the agents'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and not __fish_seen_subcommand_from create list get delete isolate restore revoke reprovision secret integration" -f -a "get" -d 'Show one agent'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and not __fish_seen_subcommand_from create list get delete isolate restore revoke reprovision secret integration" -f -a "delete" -d 'Delete an agent with its secrets; what it did stays in the audit log'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and not __fish_seen_subcommand_from create list get delete isolate restore revoke reprovision secret integration" -f -a "isolate" -d 'Stop serving an agent until it is restored'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and not __fish_seen_subcommand_from create list get delete isolate restore revoke reprovision secret integration" -f -a "restore" -d 'Serve an isolated agent again'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and not __fish_seen_subcommand_from create list get delete isolate restore revoke reprovision secret integration" -f -a "revoke" -d 'Stop serving an agent for good; only reprovision brings it back'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and not __fish_seen_subcommand_from create list get delete isolate restore revoke reprovision secret integration" -f -a "reprovision" -d 'Serve a revoked agent again'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and not __fish_seen_subcommand_from create list get delete isolate restore revoke reprovision secret integration" -f -a "secret" -d 'Secrets of one agent'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and not __fish_seen_subcommand_from create list get delete isolate restore revoke reprovision secret integration" -f -a "integration" -d 'Links of one agent to providers'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from create" -l enclave -d 'Where it runs' -r
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from create" -l unix-user -d 'The Unix user, by name or number, under which it runs there' -r
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from create" -l acts-as -d 'The user on whose behalf it acts' -r
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from create" -l gid -d 'Selector: a group that the process must have, by number' -r
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from create" -l unit -d 'Selector: the systemd system unit that the process must belong to' -r
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from create" -l cgroup -d 'Selector: the cgroup that the process must be in or below' -r
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from create" -s o -l output -d 'How to print the answer' -r -f -a "table\t'For people'
json\t'For programs; lists are arrays'"
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from create" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from create" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from list" -l enclave -d 'Only those of this enclave' -r
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from list" -l state -d 'Only those in this state: active, isolated or revoked' -r
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from list" -s o -l output -d 'How to print the answer' -r -f -a "table\t'For people'
json\t'For programs; lists are arrays'"
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from list" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from get" -s o -l output -d 'How to print the answer' -r -f -a "table\t'For people'
json\t'For programs; lists are arrays'"
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from get" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from get" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from delete" -s o -l output -d 'How to print the answer' -r -f -a "table\t'For people'
json\t'For programs; lists are arrays'"
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from delete" -s y -l yes -d 'Do not ask; without a terminal nothing is asked anyway'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from delete" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from delete" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from isolate" -l timeout -d 'How long to wait for the brokers, in seconds' -r
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from isolate" -l reason -d 'Why: for the audit log, and for whoever finds the agent refused' -r
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from isolate" -s o -l output -d 'How to print the answer' -r -f -a "table\t'For people'
json\t'For programs; lists are arrays'"
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from isolate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from isolate" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from restore" -l timeout -d 'How long to wait for the brokers, in seconds' -r
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from restore" -s o -l output -d 'How to print the answer' -r -f -a "table\t'For people'
json\t'For programs; lists are arrays'"
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from restore" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from restore" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from revoke" -l timeout -d 'How long to wait for the brokers, in seconds' -r
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from revoke" -l reason -d 'Why: for the audit log, and for whoever finds the agent refused' -r
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from revoke" -s o -l output -d 'How to print the answer' -r -f -a "table\t'For people'
json\t'For programs; lists are arrays'"
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from revoke" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from revoke" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from reprovision" -l timeout -d 'How long to wait for the brokers, in seconds' -r
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from reprovision" -s o -l output -d 'How to print the answer' -r -f -a "table\t'For people'
json\t'For programs; lists are arrays'"
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from reprovision" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from reprovision" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from secret" -s o -l output -d 'How to print the answer' -r -f -a "table\t'For people'
json\t'For programs; lists are arrays'"
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from secret" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from secret" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from secret" -f -a "list" -d 'List the names of an agent\'s own secrets; values never come back'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from secret" -f -a "set" -d 'Store a secret of an agent, or replace it'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from secret" -f -a "delete" -d 'Delete a secret of an agent'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from integration" -s o -l output -d 'How to print the answer' -r -f -a "table\t'For people'
json\t'For programs; lists are arrays'"
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from integration" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from integration" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from integration" -f -a "list" -d 'List the providers that an agent is linked to'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from integration" -f -a "gitlab" -d 'An agent\'s identity at GitLab'
complete -c dvx -n "__fish_dvx_using_subcommand agent; and __fish_seen_subcommand_from integration" -f -a "github" -d 'An agent\'s identity at GitHub'
complete -c dvx -n "__fish_dvx_using_subcommand secret; and not __fish_seen_subcommand_from list set delete" -s o -l output -d 'How to print the answer' -r -f -a "table\t'For people'
json\t'For programs; lists are arrays'"
complete -c dvx -n "__fish_dvx_using_subcommand secret; and not __fish_seen_subcommand_from list set delete" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx -n "__fish_dvx_using_subcommand secret; and not __fish_seen_subcommand_from list set delete" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand secret; and not __fish_seen_subcommand_from list set delete" -f -a "list" -d 'List the names of the organisation\'s secrets; values never come back'
complete -c dvx -n "__fish_dvx_using_subcommand secret; and not __fish_seen_subcommand_from list set delete" -f -a "set" -d 'Store a secret of the organisation, or replace it'
complete -c dvx -n "__fish_dvx_using_subcommand secret; and not __fish_seen_subcommand_from list set delete" -f -a "delete" -d 'Delete a secret of the organisation'
complete -c dvx -n "__fish_dvx_using_subcommand secret; and __fish_seen_subcommand_from list" -s o -l output -d 'How to print the answer' -r -f -a "table\t'For people'
json\t'For programs; lists are arrays'"
complete -c dvx -n "__fish_dvx_using_subcommand secret; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx -n "__fish_dvx_using_subcommand secret; and __fish_seen_subcommand_from list" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand secret; and __fish_seen_subcommand_from set" -l value -d 'The value itself; better not: other users of this machine see it in ps, and shells remember it' -r
complete -c dvx -n "__fish_dvx_using_subcommand secret; and __fish_seen_subcommand_from set" -l from-file -d 'Read the value from a file; - is stdin' -r -F
complete -c dvx -n "__fish_dvx_using_subcommand secret; and __fish_seen_subcommand_from set" -l display-name -d 'Credentials: who the token is at the provider' -r
complete -c dvx -n "__fish_dvx_using_subcommand secret; and __fish_seen_subcommand_from set" -l auth-type -d 'Credentials: pat, service_account or project_access_token' -r
complete -c dvx -n "__fish_dvx_using_subcommand secret; and __fish_seen_subcommand_from set" -l instance-url -d 'Credentials: where the token may be sent, https or http to loopback' -r
complete -c dvx -n "__fish_dvx_using_subcommand secret; and __fish_seen_subcommand_from set" -l expires-at -d 'Credentials: when the token ends, RFC 3339 or YYYY-MM-DD (its beginning, UTC)' -r
complete -c dvx -n "__fish_dvx_using_subcommand secret; and __fish_seen_subcommand_from set" -s o -l output -d 'How to print the answer' -r -f -a "table\t'For people'
json\t'For programs; lists are arrays'"
complete -c dvx -n "__fish_dvx_using_subcommand secret; and __fish_seen_subcommand_from set" -l no-agent-accessible -d 'Agents do not get the value by its name; a <provider>:token becomes a credential by this'
complete -c dvx -n "__fish_dvx_using_subcommand secret; and __fish_seen_subcommand_from set" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx -n "__fish_dvx_using_subcommand secret; and __fish_seen_subcommand_from set" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand secret; and __fish_seen_subcommand_from delete" -s o -l output -d 'How to print the answer' -r -f -a "table\t'For people'
json\t'For programs; lists are arrays'"
complete -c dvx -n "__fish_dvx_using_subcommand secret; and __fish_seen_subcommand_from delete" -s y -l yes -d 'Do not ask; without a terminal nothing is asked anyway'
complete -c dvx -n "__fish_dvx_using_subcommand secret; and __fish_seen_subcommand_from delete" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx -n "__fish_dvx_using_subcommand secret; and __fish_seen_subcommand_from delete" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand credential-provider; and not __fish_seen_subcommand_from list create rotate delete debts" -s o -l output -d 'How to print the answer' -r -f -a "table\t'For people'
json\t'For programs; lists are arrays'"
complete -c dvx -n "__fish_dvx_using_subcommand credential-provider; and not __fish_seen_subcommand_from list create rotate delete debts" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx -n "__fish_dvx_using_subcommand credential-provider; and not __fish_seen_subcommand_from list create rotate delete debts" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand credential-provider; and not __fish_seen_subcommand_from list create rotate delete debts" -f -a "list" -d 'List the credential providers; their tokens never come back'
complete -c dvx -n "__fish_dvx_using_subcommand credential-provider; and not __fish_seen_subcommand_from list create rotate delete debts" -f -a "create" -d 'Add a credential provider, after GitLab has said that its token owns the group'
complete -c dvx -n "__fish_dvx_using_subcommand credential-provider; and not __fish_seen_subcommand_from list create rotate delete debts" -f -a "rotate" -d 'Give a credential provider another token, after the same checks; agents keep theirs'
complete -c dvx -n "__fish_dvx_using_subcommand credential-provider; and not __fish_seen_subcommand_from list create rotate delete debts" -f -a "delete" -d 'Delete a credential provider that no agent uses'
complete -c dvx -n "__fish_dvx_using_subcommand credential-provider; and not __fish_seen_subcommand_from list create rotate delete debts" -f -a "debts" -d 'List the identities that could not be removed at their provider yet; that is tried again by itself'
complete -c dvx -n "__fish_dvx_using_subcommand credential-provider; and __fish_seen_subcommand_from list" -s o -l output -d 'How to print the answer' -r -f -a "table\t'For people'
json\t'For programs; lists are arrays'"
complete -c dvx -n "__fish_dvx_using_subcommand credential-provider; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx -n "__fish_dvx_using_subcommand credential-provider; and __fish_seen_subcommand_from list" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand credential-provider; and __fish_seen_subcommand_from create" -l provider -d 'Whose identities it makes: gitlab' -r
complete -c dvx -n "__fish_dvx_using_subcommand credential-provider; and __fish_seen_subcommand_from create" -l name -d 'Its name, unlike that of every other credential provider' -r
complete -c dvx -n "__fish_dvx_using_subcommand credential-provider; and __fish_seen_subcommand_from create" -l instance-url -d 'Where, if not https://gitlab.com' -r
complete -c dvx -n "__fish_dvx_using_subcommand credential-provider; and __fish_seen_subcommand_from create" -l token -d 'The token itself; better not: other users of this machine see it in ps, and shells remember it' -r
complete -c dvx -n "__fish_dvx_using_subcommand credential-provider; and __fish_seen_subcommand_from create" -l group-id -d 'The group, by its number or full path, of which the token\'s user is an Owner' -r
complete -c dvx -n "__fish_dvx_using_subcommand credential-provider; and __fish_seen_subcommand_from create" -l provisioning-mode -d 'What an agent gets: service_account, one of the group\'s; project_access_token, one of a project\'s' -r
complete -c dvx -n "__fish_dvx_using_subcommand credential-provider; and __fish_seen_subcommand_from create" -l rotate-every -d 'How often its own token is replaced, such as 30d or 12h; off for never' -r
complete -c dvx -n "__fish_dvx_using_subcommand credential-provider; and __fish_seen_subcommand_from create" -s o -l output -d 'How to print the answer' -r -f -a "table\t'For people'
json\t'For programs; lists are arrays'"
complete -c dvx -n "__fish_dvx_using_subcommand credential-provider; and __fish_seen_subcommand_from create" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx -n "__fish_dvx_using_subcommand credential-provider; and __fish_seen_subcommand_from create" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand credential-provider; and __fish_seen_subcommand_from rotate" -l token -d 'The token itself; better not: other users of this machine see it in ps, and shells remember it' -r
complete -c dvx -n "__fish_dvx_using_subcommand credential-provider; and __fish_seen_subcommand_from rotate" -s o -l output -d 'How to print the answer' -r -f -a "table\t'For people'
json\t'For programs; lists are arrays'"
complete -c dvx -n "__fish_dvx_using_subcommand credential-provider; and __fish_seen_subcommand_from rotate" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx -n "__fish_dvx_using_subcommand credential-provider; and __fish_seen_subcommand_from rotate" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand credential-provider; and __fish_seen_subcommand_from delete" -s o -l output -d 'How to print the answer' -r -f -a "table\t'For people'
json\t'For programs; lists are arrays'"
complete -c dvx -n "__fish_dvx_using_subcommand credential-provider; and __fish_seen_subcommand_from delete" -s y -l yes -d 'Do not ask; without a terminal nothing is asked anyway'
complete -c dvx -n "__fish_dvx_using_subcommand credential-provider; and __fish_seen_subcommand_from delete" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx -n "__fish_dvx_using_subcommand credential-provider; and __fish_seen_subcommand_from delete" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand credential-provider; and __fish_seen_subcommand_from debts" -s o -l output -d 'How to print the answer' -r -f -a "table\t'For people'
json\t'For programs; lists are arrays'"
complete -c dvx -n "__fish_dvx_using_subcommand credential-provider; and __fish_seen_subcommand_from debts" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx -n "__fish_dvx_using_subcommand credential-provider; and __fish_seen_subcommand_from debts" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand audit; and not __fish_seen_subcommand_from list export" -s h -l help -d 'Print help'
complete -c dvx -n "__fish_dvx_using_subcommand audit; and not __fish_seen_subcommand_from list export" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand audit; and not __fish_seen_subcommand_from list export" -f -a "list" -d 'Show events, oldest first'
complete -c dvx -n "__fish_dvx_using_subcommand audit; and not __fish_seen_subcommand_from list export" -f -a "export" -d 'Write events for other programs: one JSON object a line, unless another format is asked for'
complete -c dvx -n "__fish_dvx_using_subcommand audit; and __fish_seen_subcommand_from list" -l agent -d 'Only events about this agent, also when it has been deleted' -r
complete -c dvx -n "__fish_dvx_using_subcommand audit; and __fish_seen_subcommand_from list" -l since -d 'Only events from then on: RFC 3339, YYYY-MM-DD, or how long ago, such as 90m, 2h or 7d' -r
complete -c dvx -n "__fish_dvx_using_subcommand audit; and __fish_seen_subcommand_from list" -l until -d 'Only events before then' -r
complete -c dvx -n "__fish_dvx_using_subcommand audit; and __fish_seen_subcommand_from list" -l format -d 'table for people; jsonl for programs; ocsf for what collects security events' -r -f -a "table\t''
jsonl\t''
ocsf\t''"
complete -c dvx -n "__fish_dvx_using_subcommand audit; and __fish_seen_subcommand_from list" -s o -l output -d 'How to print the answer' -r -f -a "table\t'For people'
json\t'For programs; lists are arrays'"
complete -c dvx -n "__fish_dvx_using_subcommand audit; and __fish_seen_subcommand_from list" -s f -l follow -d 'Stay, and show what happens; Ctrl-C ends it'
complete -c dvx -n "__fish_dvx_using_subcommand audit; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c dvx -n "__fish_dvx_using_subcommand audit; and __fish_seen_subcommand_from list" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand audit; and __fish_seen_subcommand_from export" -l agent -d 'Only events about this agent, also when it has been deleted' -r
complete -c dvx -n "__fish_dvx_using_subcommand audit; and __fish_seen_subcommand_from export" -l since -d 'Only events from then on: RFC 3339, YYYY-MM-DD, or how long ago, such as 90m, 2h or 7d' -r
complete -c dvx -n "__fish_dvx_using_subcommand audit; and __fish_seen_subcommand_from export" -l until -d 'Only events before then' -r
complete -c dvx -n "__fish_dvx_using_subcommand audit; and __fish_seen_subcommand_from export" -l format -d 'table for people; jsonl for programs; ocsf for what collects security events' -r -f -a "table\t''
jsonl\t''
ocsf\t''"
complete -c dvx -n "__fish_dvx_using_subcommand audit; and __fish_seen_subcommand_from export" -s f -l follow -d 'Stay, and show what happens; Ctrl-C ends it'
complete -c dvx -n "__fish_dvx_using_subcommand audit; and __fish_seen_subcommand_from export" -s h -l help -d 'Print help'
complete -c dvx -n "__fish_dvx_using_subcommand audit; and __fish_seen_subcommand_from export" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand completions" -s h -l help -d 'Print help'
complete -c dvx -n "__fish_dvx_using_subcommand completions" -s V -l version -d 'Print version'
complete -c dvx -n "__fish_dvx_using_subcommand man" -s h -l help -d 'Print help'
complete -c dvx -n "__fish_dvx_using_subcommand man" -s V -l version -d 'Print version'
