# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_msb_global_optspecs
    string join \n q/quiet tree h/help V/version
end

function __fish_msb_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_msb_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_msb_using_subcommand
    set -l cmd (__fish_msb_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c msb -n "__fish_msb_needs_command" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_needs_command" -l tree -d 'Print all commands as a tree'
complete -c msb -n "__fish_msb_needs_command" -s h -l help -d 'Print help'
complete -c msb -n "__fish_msb_needs_command" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_needs_command" -f -a "init" -d 'Start a project: a Sandboxfile, and menv/ in .gitignore'
complete -c msb -n "__fish_msb_needs_command" -f -a "add" -d 'Add sandboxes to the Sandboxfile'
complete -c msb -n "__fish_msb_needs_command" -f -a "remove" -d 'Remove sandboxes from the Sandboxfile'
complete -c msb -n "__fish_msb_needs_command" -f -a "list" -d 'List the sandboxes of the project, those with names of their own, and the installed ones'
complete -c msb -n "__fish_msb_needs_command" -f -a "ls" -d 'List the sandboxes of the project, those with names of their own, and the installed ones'
complete -c msb -n "__fish_msb_needs_command" -f -a "run" -d 'Run a sandbox of the project, or an image as a throw-away sandbox'
complete -c msb -n "__fish_msb_needs_command" -f -a "r" -d 'Run a sandbox of the project, or an image as a throw-away sandbox'
complete -c msb -n "__fish_msb_needs_command" -f -a "shell" -d 'Open a shell in a sandbox of the project'
complete -c msb -n "__fish_msb_needs_command" -f -a "up" -d 'Start the sandboxes of the project, and show what they write'
complete -c msb -n "__fish_msb_needs_command" -f -a "down" -d 'Stop the sandboxes of the project'
complete -c msb -n "__fish_msb_needs_command" -f -a "apply" -d 'Make what runs be what the Sandboxfile says'
complete -c msb -n "__fish_msb_needs_command" -f -a "create" -d 'Make a sandbox of an image, with a name of its own'
complete -c msb -n "__fish_msb_needs_command" -f -a "start" -d 'Start sandboxes in the background'
complete -c msb -n "__fish_msb_needs_command" -f -a "exec" -d 'Run a command in a running sandbox'
complete -c msb -n "__fish_msb_needs_command" -f -a "attach" -d 'Join the main process of a running sandbox'
complete -c msb -n "__fish_msb_needs_command" -f -a "logs" -d 'Show what the main process of a sandbox has written'
complete -c msb -n "__fish_msb_needs_command" -f -a "log" -d 'Show what the main process of a sandbox has written'
complete -c msb -n "__fish_msb_needs_command" -f -a "stop" -d 'Stop sandboxes'
complete -c msb -n "__fish_msb_needs_command" -f -a "restart" -d 'Stop sandboxes and start them again in the background'
complete -c msb -n "__fish_msb_needs_command" -f -a "kill" -d 'Send a signal to the main process of sandboxes'
complete -c msb -n "__fish_msb_needs_command" -f -a "pause" -d 'Make sandboxes stand still'
complete -c msb -n "__fish_msb_needs_command" -f -a "unpause" -d 'Let paused sandboxes go on'
complete -c msb -n "__fish_msb_needs_command" -f -a "wait" -d 'Wait until sandboxes have ended and print the exit codes of their main processes'
complete -c msb -n "__fish_msb_needs_command" -f -a "status" -d 'Show running sandboxes, of all projects'
complete -c msb -n "__fish_msb_needs_command" -f -a "ps" -d 'Show running sandboxes, of all projects'
complete -c msb -n "__fish_msb_needs_command" -f -a "inspect" -d 'Show everything known about sandboxes, as JSON'
complete -c msb -n "__fish_msb_needs_command" -f -a "events" -d 'Show what has happened to sandboxes'
complete -c msb -n "__fish_msb_needs_command" -f -a "cp" -d 'Copy files between a sandbox and the host'
complete -c msb -n "__fish_msb_needs_command" -f -a "diff" -d 'Show what a sandbox has changed of its image'
complete -c msb -n "__fish_msb_needs_command" -f -a "metrics" -d 'Show processors, memory, disk and network of running sandboxes'
complete -c msb -n "__fish_msb_needs_command" -f -a "top" -d 'Show the processes of running sandboxes, live'
complete -c msb -n "__fish_msb_needs_command" -f -a "rm" -d 'Remove sandboxes with everything they have written'
complete -c msb -n "__fish_msb_needs_command" -f -a "rename" -d 'Give a sandbox that `msb create` made another name'
complete -c msb -n "__fish_msb_needs_command" -f -a "clean" -d 'Remove what the project\'s sandboxes have written'
complete -c msb -n "__fish_msb_needs_command" -f -a "lock" -d 'Pin the images of the Sandboxfile to their digests'
complete -c msb -n "__fish_msb_needs_command" -f -a "update" -d 'Pin images to what their names stand for now'
complete -c msb -n "__fish_msb_needs_command" -f -a "exe" -d 'Run an image in a throw-away sandbox that leaves no trace'
complete -c msb -n "__fish_msb_needs_command" -f -a "x" -d 'Run an image in a throw-away sandbox that leaves no trace'
complete -c msb -n "__fish_msb_needs_command" -f -a "install" -d 'Make an image a command on PATH that keeps what it writes'
complete -c msb -n "__fish_msb_needs_command" -f -a "i" -d 'Make an image a command on PATH that keeps what it writes'
complete -c msb -n "__fish_msb_needs_command" -f -a "uninstall" -d 'Remove an installed sandbox: its command and everything it kept'
complete -c msb -n "__fish_msb_needs_command" -f -a "pull" -d 'Download images from registries'
complete -c msb -n "__fish_msb_needs_command" -f -a "load" -d 'Load images from an archive or folder'
complete -c msb -n "__fish_msb_needs_command" -f -a "login" -d 'Log in to a registry'
complete -c msb -n "__fish_msb_needs_command" -f -a "logout" -d 'Log out of a registry'
complete -c msb -n "__fish_msb_needs_command" -f -a "save" -d 'Write images to an archive or folder'
complete -c msb -n "__fish_msb_needs_command" -f -a "push" -d 'Upload an image to a registry'
complete -c msb -n "__fish_msb_needs_command" -f -a "tag" -d 'Give an image another name'
complete -c msb -n "__fish_msb_needs_command" -f -a "df" -d 'Show what the image cache holds, what is shared, and what can go'
complete -c msb -n "__fish_msb_needs_command" -f -a "image" -d 'Work with images'
complete -c msb -n "__fish_msb_needs_command" -f -a "volume" -d 'Work with named volumes'
complete -c msb -n "__fish_msb_needs_command" -f -a "doctor" -d 'Check what this machine can run, and say what to do about what it cannot'
complete -c msb -n "__fish_msb_needs_command" -f -a "self" -d 'Manage msb itself'
complete -c msb -n "__fish_msb_needs_command" -f -a "completion" -d 'Print completions for a shell'
complete -c msb -n "__fish_msb_using_subcommand init" -s f -l file -d 'Folder of the project [default: the current one]' -r -f -a "(__fish_complete_directories)"
complete -c msb -n "__fish_msb_using_subcommand init" -l template -d 'What to start from' -r -f -a "default\t''
alpine\t''
debian\t''
go\t''
node\t''
python\t''
rust\t''"
complete -c msb -n "__fish_msb_using_subcommand init" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand init" -s h -l help -d 'Print help'
complete -c msb -n "__fish_msb_using_subcommand init" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand add" -s i -l image -d 'Image they run' -r
complete -c msb -n "__fish_msb_using_subcommand add" -l cpus -d 'Number of virtual CPUs [default: 1]' -r
complete -c msb -n "__fish_msb_using_subcommand add" -l memory -d 'Memory: MiB, or with a unit such as 512M or 2G [default: 1024]' -r
complete -c msb -n "__fish_msb_using_subcommand add" -l disk -d 'Size of the writable disk: MiB, or with a unit; only what is written takes space [default: 8G]' -r
complete -c msb -n "__fish_msb_using_subcommand add" -s v -l volume -d 'Mount a folder or file of this machine (./src:/work), or a named volume (data:/var/lib/db), in the sandbox; :ro at the end makes it read-only (can be repeated)' -r -F
complete -c msb -n "__fish_msb_using_subcommand add" -l tmpfs -d 'Mount memory in the sandbox, such as /tmp:size=64m (can be repeated)' -r
complete -c msb -n "__fish_msb_using_subcommand add" -l env -d 'Environment variable (can be repeated)' -r
complete -c msb -n "__fish_msb_using_subcommand add" -l env-file -d 'File of environment variables, relative to the Sandboxfile (can be repeated)' -r
complete -c msb -n "__fish_msb_using_subcommand add" -l workdir -d 'Working directory' -r
complete -c msb -n "__fish_msb_using_subcommand add" -l user -d 'User, as name or id, with an optional group: USER[:GROUP]' -r
complete -c msb -n "__fish_msb_using_subcommand add" -l shell -d 'Shell for scripts and `msb shell`' -r
complete -c msb -n "__fish_msb_using_subcommand add" -l script -d 'Script (can be repeated)' -r
complete -c msb -n "__fish_msb_using_subcommand add" -l start -d 'The `start` script: what `msb run NAME` runs' -r
complete -c msb -n "__fish_msb_using_subcommand add" -l depends-on -d 'Sandbox that must be there before it starts, and how far: started (the default), healthy, completed (can be repeated)' -r
complete -c msb -n "__fish_msb_using_subcommand add" -l restart -d 'Whether it is started again in the background when it has ended by itself: no, on-failure[:COUNT], always' -r
complete -c msb -n "__fish_msb_using_subcommand add" -s f -l file -d 'Sandboxfile, or the folder it is in [default: the nearest one, searched upwards]' -r -F
complete -c msb -n "__fish_msb_using_subcommand add" -l idle -d 'It starts no main process in the background, and is up until it is stopped'
complete -c msb -n "__fish_msb_using_subcommand add" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand add" -s h -l help -d 'Print help'
complete -c msb -n "__fish_msb_using_subcommand add" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand remove" -s f -l file -d 'Sandboxfile, or the folder it is in [default: the nearest one, searched upwards]' -r -F
complete -c msb -n "__fish_msb_using_subcommand remove" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand remove" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand remove" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand list" -s f -l file -d 'Sandboxfile, or the folder it is in [default: the nearest one, searched upwards]' -r -F
complete -c msb -n "__fish_msb_using_subcommand list" -l format -d 'How to print' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c msb -n "__fish_msb_using_subcommand list" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand list" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand ls" -s f -l file -d 'Sandboxfile, or the folder it is in [default: the nearest one, searched upwards]' -r -F
complete -c msb -n "__fish_msb_using_subcommand ls" -l format -d 'How to print' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c msb -n "__fish_msb_using_subcommand ls" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand ls" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand run" -s f -l file -d 'Sandboxfile, or the folder it is in [default: the nearest one, searched upwards]' -r -F
complete -c msb -n "__fish_msb_using_subcommand run" -s e -l exec -d 'Program to run instead of the default one; its arguments come after `--`' -r
complete -c msb -n "__fish_msb_using_subcommand run" -l env -d 'Set an environment variable, or with KEY alone pass on the caller\'s (can be repeated)' -r
complete -c msb -n "__fish_msb_using_subcommand run" -l env-file -d 'Read environment variables from a file (can be repeated)' -r -F
complete -c msb -n "__fish_msb_using_subcommand run" -l workdir -d 'Working directory in the sandbox' -r
complete -c msb -n "__fish_msb_using_subcommand run" -l user -d 'User, as name or id, with an optional group: USER[:GROUP]' -r
complete -c msb -n "__fish_msb_using_subcommand run" -l cpus -d 'Number of virtual CPUs [default: 1]' -r
complete -c msb -n "__fish_msb_using_subcommand run" -l memory -d 'Memory: MiB, or with a unit such as 512M or 2G [default: 1024]' -r
complete -c msb -n "__fish_msb_using_subcommand run" -l disk -d 'Size of the writable disk: MiB, or with a unit; only what is written takes space [default: 8G]' -r
complete -c msb -n "__fish_msb_using_subcommand run" -s v -l volume -d 'Mount a folder or file of this machine (./src:/work), or a named volume (data:/var/lib/db), in the sandbox; :ro at the end makes it read-only (can be repeated)' -r -F
complete -c msb -n "__fish_msb_using_subcommand run" -l tmpfs -d 'Mount memory in the sandbox, such as /tmp:size=64m (can be repeated)' -r
complete -c msb -n "__fish_msb_using_subcommand run" -l vmm -d 'Hypervisor to use' -r -f -a "auto\t'libkrun where KVM runs guest code natively, else QEMU'
krun\t'libkrun'
qemu\t'QEMU'"
complete -c msb -n "__fish_msb_using_subcommand run" -l kernel -d 'Guest kernel to boot: an ELF vmlinux [env: MSB_KERNEL]' -r -F
complete -c msb -n "__fish_msb_using_subcommand run" -l name -d 'Name of the sandbox that a detached image becomes [default: made up]' -r
complete -c msb -n "__fish_msb_using_subcommand run" -l restart -d 'Start it again when it has ended by itself: no, on-failure[:COUNT], always' -r
complete -c msb -n "__fish_msb_using_subcommand run" -l max-duration -d 'Stop it after so long: 90s, 30m, 12h' -r
complete -c msb -n "__fish_msb_using_subcommand run" -l idle-timeout -d 'Stop it when nobody has used it for so long' -r
complete -c msb -n "__fish_msb_using_subcommand run" -l sandbox -d 'NAME is a sandbox of the Sandboxfile'
complete -c msb -n "__fish_msb_using_subcommand run" -l image -d 'NAME is an image'
complete -c msb -n "__fish_msb_using_subcommand run" -l installed -d 'NAME is an installed sandbox'
complete -c msb -n "__fish_msb_using_subcommand run" -s t -l tty -d 'Give the program a terminal [default: when standard input and output are one]'
complete -c msb -n "__fish_msb_using_subcommand run" -s T -l no-tty -d 'Give the program pipes even on a terminal'
complete -c msb -n "__fish_msb_using_subcommand run" -l timings -d 'Print how long each phase took to standard error'
complete -c msb -n "__fish_msb_using_subcommand run" -l recreate -d 'Throw the sandbox\'s disk away first'
complete -c msb -n "__fish_msb_using_subcommand run" -l keep -d 'Stay with the image the sandbox\'s disk was made for, whatever its name stands for now'
complete -c msb -n "__fish_msb_using_subcommand run" -l locked -d 'Fail rather than change Sandboxfile.lock'
complete -c msb -n "__fish_msb_using_subcommand run" -l frozen -d 'As --locked, and do not use the network'
complete -c msb -n "__fish_msb_using_subcommand run" -s d -l detach -d 'Run in the background: `msb logs`, `exec`, `attach` and `stop` find it by its name'
complete -c msb -n "__fish_msb_using_subcommand run" -l rm -d 'Remove the sandbox when it has ended'
complete -c msb -n "__fish_msb_using_subcommand run" -s i -l interactive -d 'Keep standard input open for those who attach'
complete -c msb -n "__fish_msb_using_subcommand run" -l idle -d 'Start no main process: the sandbox is up until it is stopped'
complete -c msb -n "__fish_msb_using_subcommand run" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand run" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand r" -s f -l file -d 'Sandboxfile, or the folder it is in [default: the nearest one, searched upwards]' -r -F
complete -c msb -n "__fish_msb_using_subcommand r" -s e -l exec -d 'Program to run instead of the default one; its arguments come after `--`' -r
complete -c msb -n "__fish_msb_using_subcommand r" -l env -d 'Set an environment variable, or with KEY alone pass on the caller\'s (can be repeated)' -r
complete -c msb -n "__fish_msb_using_subcommand r" -l env-file -d 'Read environment variables from a file (can be repeated)' -r -F
complete -c msb -n "__fish_msb_using_subcommand r" -l workdir -d 'Working directory in the sandbox' -r
complete -c msb -n "__fish_msb_using_subcommand r" -l user -d 'User, as name or id, with an optional group: USER[:GROUP]' -r
complete -c msb -n "__fish_msb_using_subcommand r" -l cpus -d 'Number of virtual CPUs [default: 1]' -r
complete -c msb -n "__fish_msb_using_subcommand r" -l memory -d 'Memory: MiB, or with a unit such as 512M or 2G [default: 1024]' -r
complete -c msb -n "__fish_msb_using_subcommand r" -l disk -d 'Size of the writable disk: MiB, or with a unit; only what is written takes space [default: 8G]' -r
complete -c msb -n "__fish_msb_using_subcommand r" -s v -l volume -d 'Mount a folder or file of this machine (./src:/work), or a named volume (data:/var/lib/db), in the sandbox; :ro at the end makes it read-only (can be repeated)' -r -F
complete -c msb -n "__fish_msb_using_subcommand r" -l tmpfs -d 'Mount memory in the sandbox, such as /tmp:size=64m (can be repeated)' -r
complete -c msb -n "__fish_msb_using_subcommand r" -l vmm -d 'Hypervisor to use' -r -f -a "auto\t'libkrun where KVM runs guest code natively, else QEMU'
krun\t'libkrun'
qemu\t'QEMU'"
complete -c msb -n "__fish_msb_using_subcommand r" -l kernel -d 'Guest kernel to boot: an ELF vmlinux [env: MSB_KERNEL]' -r -F
complete -c msb -n "__fish_msb_using_subcommand r" -l name -d 'Name of the sandbox that a detached image becomes [default: made up]' -r
complete -c msb -n "__fish_msb_using_subcommand r" -l restart -d 'Start it again when it has ended by itself: no, on-failure[:COUNT], always' -r
complete -c msb -n "__fish_msb_using_subcommand r" -l max-duration -d 'Stop it after so long: 90s, 30m, 12h' -r
complete -c msb -n "__fish_msb_using_subcommand r" -l idle-timeout -d 'Stop it when nobody has used it for so long' -r
complete -c msb -n "__fish_msb_using_subcommand r" -l sandbox -d 'NAME is a sandbox of the Sandboxfile'
complete -c msb -n "__fish_msb_using_subcommand r" -l image -d 'NAME is an image'
complete -c msb -n "__fish_msb_using_subcommand r" -l installed -d 'NAME is an installed sandbox'
complete -c msb -n "__fish_msb_using_subcommand r" -s t -l tty -d 'Give the program a terminal [default: when standard input and output are one]'
complete -c msb -n "__fish_msb_using_subcommand r" -s T -l no-tty -d 'Give the program pipes even on a terminal'
complete -c msb -n "__fish_msb_using_subcommand r" -l timings -d 'Print how long each phase took to standard error'
complete -c msb -n "__fish_msb_using_subcommand r" -l recreate -d 'Throw the sandbox\'s disk away first'
complete -c msb -n "__fish_msb_using_subcommand r" -l keep -d 'Stay with the image the sandbox\'s disk was made for, whatever its name stands for now'
complete -c msb -n "__fish_msb_using_subcommand r" -l locked -d 'Fail rather than change Sandboxfile.lock'
complete -c msb -n "__fish_msb_using_subcommand r" -l frozen -d 'As --locked, and do not use the network'
complete -c msb -n "__fish_msb_using_subcommand r" -s d -l detach -d 'Run in the background: `msb logs`, `exec`, `attach` and `stop` find it by its name'
complete -c msb -n "__fish_msb_using_subcommand r" -l rm -d 'Remove the sandbox when it has ended'
complete -c msb -n "__fish_msb_using_subcommand r" -s i -l interactive -d 'Keep standard input open for those who attach'
complete -c msb -n "__fish_msb_using_subcommand r" -l idle -d 'Start no main process: the sandbox is up until it is stopped'
complete -c msb -n "__fish_msb_using_subcommand r" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand r" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand r" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand shell" -s f -l file -d 'Sandboxfile, or the folder it is in [default: the nearest one, searched upwards]' -r -F
complete -c msb -n "__fish_msb_using_subcommand shell" -l env -d 'Set an environment variable, or with KEY alone pass on the caller\'s (can be repeated)' -r
complete -c msb -n "__fish_msb_using_subcommand shell" -l env-file -d 'Read environment variables from a file (can be repeated)' -r -F
complete -c msb -n "__fish_msb_using_subcommand shell" -l workdir -d 'Working directory in the sandbox' -r
complete -c msb -n "__fish_msb_using_subcommand shell" -l user -d 'User, as name or id, with an optional group: USER[:GROUP]' -r
complete -c msb -n "__fish_msb_using_subcommand shell" -l cpus -d 'Number of virtual CPUs [default: 1]' -r
complete -c msb -n "__fish_msb_using_subcommand shell" -l memory -d 'Memory: MiB, or with a unit such as 512M or 2G [default: 1024]' -r
complete -c msb -n "__fish_msb_using_subcommand shell" -l disk -d 'Size of the writable disk: MiB, or with a unit; only what is written takes space [default: 8G]' -r
complete -c msb -n "__fish_msb_using_subcommand shell" -s v -l volume -d 'Mount a folder or file of this machine (./src:/work), or a named volume (data:/var/lib/db), in the sandbox; :ro at the end makes it read-only (can be repeated)' -r -F
complete -c msb -n "__fish_msb_using_subcommand shell" -l tmpfs -d 'Mount memory in the sandbox, such as /tmp:size=64m (can be repeated)' -r
complete -c msb -n "__fish_msb_using_subcommand shell" -l vmm -d 'Hypervisor to use' -r -f -a "auto\t'libkrun where KVM runs guest code natively, else QEMU'
krun\t'libkrun'
qemu\t'QEMU'"
complete -c msb -n "__fish_msb_using_subcommand shell" -l kernel -d 'Guest kernel to boot: an ELF vmlinux [env: MSB_KERNEL]' -r -F
complete -c msb -n "__fish_msb_using_subcommand shell" -s t -l tty -d 'Give the program a terminal [default: when standard input and output are one]'
complete -c msb -n "__fish_msb_using_subcommand shell" -s T -l no-tty -d 'Give the program pipes even on a terminal'
complete -c msb -n "__fish_msb_using_subcommand shell" -l timings -d 'Print how long each phase took to standard error'
complete -c msb -n "__fish_msb_using_subcommand shell" -l recreate -d 'Throw the sandbox\'s disk away first'
complete -c msb -n "__fish_msb_using_subcommand shell" -l keep -d 'Stay with the image the sandbox\'s disk was made for, whatever its name stands for now'
complete -c msb -n "__fish_msb_using_subcommand shell" -l locked -d 'Fail rather than change Sandboxfile.lock'
complete -c msb -n "__fish_msb_using_subcommand shell" -l frozen -d 'As --locked, and do not use the network'
complete -c msb -n "__fish_msb_using_subcommand shell" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand shell" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand shell" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand up" -s f -l file -d 'Sandboxfile, or the folder it is in [default: the nearest one, searched upwards]' -r -F
complete -c msb -n "__fish_msb_using_subcommand up" -s t -l time -d 'How long its processes may take after the stop signal before they are killed: 0s kills at once' -r
complete -c msb -n "__fish_msb_using_subcommand up" -l vmm -d 'Hypervisor to use' -r -f -a "auto\t'libkrun where KVM runs guest code natively, else QEMU'
krun\t'libkrun'
qemu\t'QEMU'"
complete -c msb -n "__fish_msb_using_subcommand up" -l kernel -d 'Guest kernel to boot: an ELF vmlinux [env: MSB_KERNEL]' -r -F
complete -c msb -n "__fish_msb_using_subcommand up" -s d -l detach -d 'Return when all are up and what they wait for has come: `msb down` stops them'
complete -c msb -n "__fish_msb_using_subcommand up" -l timings -d 'Print how long each phase took to standard error'
complete -c msb -n "__fish_msb_using_subcommand up" -l recreate -d 'Throw the sandbox\'s disk away first'
complete -c msb -n "__fish_msb_using_subcommand up" -l keep -d 'Stay with the image the sandbox\'s disk was made for, whatever its name stands for now'
complete -c msb -n "__fish_msb_using_subcommand up" -l locked -d 'Fail rather than change Sandboxfile.lock'
complete -c msb -n "__fish_msb_using_subcommand up" -l frozen -d 'As --locked, and do not use the network'
complete -c msb -n "__fish_msb_using_subcommand up" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand up" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand up" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand down" -s f -l file -d 'Sandboxfile, or the folder it is in [default: the nearest one, searched upwards]' -r -F
complete -c msb -n "__fish_msb_using_subcommand down" -s t -l time -d 'How long its processes may take after the stop signal before they are killed: 0s kills at once' -r
complete -c msb -n "__fish_msb_using_subcommand down" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand down" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand down" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand apply" -s f -l file -d 'Sandboxfile, or the folder it is in [default: the nearest one, searched upwards]' -r -F
complete -c msb -n "__fish_msb_using_subcommand apply" -l format -d 'How to print' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c msb -n "__fish_msb_using_subcommand apply" -s t -l time -d 'How long its processes may take after the stop signal before they are killed: 0s kills at once' -r
complete -c msb -n "__fish_msb_using_subcommand apply" -l vmm -d 'Hypervisor to use' -r -f -a "auto\t'libkrun where KVM runs guest code natively, else QEMU'
krun\t'libkrun'
qemu\t'QEMU'"
complete -c msb -n "__fish_msb_using_subcommand apply" -l kernel -d 'Guest kernel to boot: an ELF vmlinux [env: MSB_KERNEL]' -r -F
complete -c msb -n "__fish_msb_using_subcommand apply" -l dry-run -d 'Only show the plan'
complete -c msb -n "__fish_msb_using_subcommand apply" -l timings -d 'Print how long each phase took to standard error'
complete -c msb -n "__fish_msb_using_subcommand apply" -l recreate -d 'Throw the sandbox\'s disk away first'
complete -c msb -n "__fish_msb_using_subcommand apply" -l keep -d 'Stay with the image the sandbox\'s disk was made for, whatever its name stands for now'
complete -c msb -n "__fish_msb_using_subcommand apply" -l locked -d 'Fail rather than change Sandboxfile.lock'
complete -c msb -n "__fish_msb_using_subcommand apply" -l frozen -d 'As --locked, and do not use the network'
complete -c msb -n "__fish_msb_using_subcommand apply" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand apply" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand apply" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand create" -l name -d 'Name of the sandbox [default: made up]' -r
complete -c msb -n "__fish_msb_using_subcommand create" -s e -l exec -d 'Program to run instead of the default one; its arguments come after `--`' -r
complete -c msb -n "__fish_msb_using_subcommand create" -l env -d 'Set an environment variable, or with KEY alone pass on the caller\'s (can be repeated)' -r
complete -c msb -n "__fish_msb_using_subcommand create" -l env-file -d 'Read environment variables from a file (can be repeated)' -r -F
complete -c msb -n "__fish_msb_using_subcommand create" -l workdir -d 'Working directory in the sandbox' -r
complete -c msb -n "__fish_msb_using_subcommand create" -l user -d 'User, as name or id, with an optional group: USER[:GROUP]' -r
complete -c msb -n "__fish_msb_using_subcommand create" -l cpus -d 'Number of virtual CPUs [default: 1]' -r
complete -c msb -n "__fish_msb_using_subcommand create" -l memory -d 'Memory: MiB, or with a unit such as 512M or 2G [default: 1024]' -r
complete -c msb -n "__fish_msb_using_subcommand create" -l disk -d 'Size of the writable disk: MiB, or with a unit; only what is written takes space [default: 8G]' -r
complete -c msb -n "__fish_msb_using_subcommand create" -s v -l volume -d 'Mount a folder or file of this machine (./src:/work), or a named volume (data:/var/lib/db), in the sandbox; :ro at the end makes it read-only (can be repeated)' -r -F
complete -c msb -n "__fish_msb_using_subcommand create" -l tmpfs -d 'Mount memory in the sandbox, such as /tmp:size=64m (can be repeated)' -r
complete -c msb -n "__fish_msb_using_subcommand create" -l restart -d 'Start it again when it has ended by itself: no, on-failure[:COUNT], always' -r
complete -c msb -n "__fish_msb_using_subcommand create" -l max-duration -d 'Stop it after so long: 90s, 30m, 12h' -r
complete -c msb -n "__fish_msb_using_subcommand create" -l idle-timeout -d 'Stop it when nobody has used it for so long' -r
complete -c msb -n "__fish_msb_using_subcommand create" -l idle -d 'Start no main process: the sandbox is up until it is stopped'
complete -c msb -n "__fish_msb_using_subcommand create" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand create" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand create" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand start" -l file -d 'Sandboxfile, or the folder it is in [default: the nearest one, searched upwards]' -r -F
complete -c msb -n "__fish_msb_using_subcommand start" -l vmm -d 'Hypervisor to use' -r -f -a "auto\t'libkrun where KVM runs guest code natively, else QEMU'
krun\t'libkrun'
qemu\t'QEMU'"
complete -c msb -n "__fish_msb_using_subcommand start" -l kernel -d 'Guest kernel to boot: an ELF vmlinux [env: MSB_KERNEL]' -r -F
complete -c msb -n "__fish_msb_using_subcommand start" -s a -l attach -d 'Join its main process; `msb attach` does so later'
complete -c msb -n "__fish_msb_using_subcommand start" -s i -l interactive -d 'Keep the main process\'s standard input open for those who attach'
complete -c msb -n "__fish_msb_using_subcommand start" -s t -l tty -d 'Give the program a terminal [default: when standard input and output are one]'
complete -c msb -n "__fish_msb_using_subcommand start" -s T -l no-tty -d 'Give the program pipes even on a terminal'
complete -c msb -n "__fish_msb_using_subcommand start" -l timings -d 'Print how long each phase took to standard error'
complete -c msb -n "__fish_msb_using_subcommand start" -l recreate -d 'Throw the sandbox\'s disk away first'
complete -c msb -n "__fish_msb_using_subcommand start" -l keep -d 'Stay with the image the sandbox\'s disk was made for, whatever its name stands for now'
complete -c msb -n "__fish_msb_using_subcommand start" -l locked -d 'Fail rather than change Sandboxfile.lock'
complete -c msb -n "__fish_msb_using_subcommand start" -l frozen -d 'As --locked, and do not use the network'
complete -c msb -n "__fish_msb_using_subcommand start" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand start" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand start" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand exec" -l file -d 'Sandboxfile, or the folder it is in [default: the nearest one, searched upwards]' -r -F
complete -c msb -n "__fish_msb_using_subcommand exec" -l env -d 'Set an environment variable, or with KEY alone pass on the caller\'s (can be repeated)' -r
complete -c msb -n "__fish_msb_using_subcommand exec" -l env-file -d 'Read environment variables from a file (can be repeated)' -r -F
complete -c msb -n "__fish_msb_using_subcommand exec" -l workdir -d 'Working directory in the sandbox' -r
complete -c msb -n "__fish_msb_using_subcommand exec" -l user -d 'User, as name or id, with an optional group: USER[:GROUP]' -r
complete -c msb -n "__fish_msb_using_subcommand exec" -l timeout -d 'Kill the command after so long, with exit code 124: 10s, 5m' -r
complete -c msb -n "__fish_msb_using_subcommand exec" -s d -l detach -d 'Leave it running: its output is dropped'
complete -c msb -n "__fish_msb_using_subcommand exec" -s i -l interactive -d 'Pass standard input on, which is the default'
complete -c msb -n "__fish_msb_using_subcommand exec" -l no-stdin -d 'Give the command no standard input'
complete -c msb -n "__fish_msb_using_subcommand exec" -s t -l tty -d 'Give the program a terminal [default: when standard input and output are one]'
complete -c msb -n "__fish_msb_using_subcommand exec" -s T -l no-tty -d 'Give the program pipes even on a terminal'
complete -c msb -n "__fish_msb_using_subcommand exec" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand exec" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand exec" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand attach" -l file -d 'Sandboxfile, or the folder it is in [default: the nearest one, searched upwards]' -r -F
complete -c msb -n "__fish_msb_using_subcommand attach" -l detach-keys -d 'Keys that leave the process alone, on a terminal' -r
complete -c msb -n "__fish_msb_using_subcommand attach" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand attach" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand attach" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand logs" -l file -d 'Sandboxfile, or the folder it is in [default: the nearest one, searched upwards]' -r -F
complete -c msb -n "__fish_msb_using_subcommand logs" -s n -l tail -d 'Only so many lines at the end' -r
complete -c msb -n "__fish_msb_using_subcommand logs" -l since -d 'Only what was written since: a duration such as 10m, or a time' -r
complete -c msb -n "__fish_msb_using_subcommand logs" -l until -d 'Only what was written before: a duration such as 10m, or a time' -r
complete -c msb -n "__fish_msb_using_subcommand logs" -l stream -d 'Only standard output, or only standard error' -r -f -a "stdout\t'Standard output, or the terminal'
stderr\t'Standard error'"
complete -c msb -n "__fish_msb_using_subcommand logs" -s f -l follow -d 'Wait for more until the sandbox has ended'
complete -c msb -n "__fish_msb_using_subcommand logs" -s t -l timestamps -d 'Put the time in front of each line'
complete -c msb -n "__fish_msb_using_subcommand logs" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand logs" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand logs" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand log" -l file -d 'Sandboxfile, or the folder it is in [default: the nearest one, searched upwards]' -r -F
complete -c msb -n "__fish_msb_using_subcommand log" -s n -l tail -d 'Only so many lines at the end' -r
complete -c msb -n "__fish_msb_using_subcommand log" -l since -d 'Only what was written since: a duration such as 10m, or a time' -r
complete -c msb -n "__fish_msb_using_subcommand log" -l until -d 'Only what was written before: a duration such as 10m, or a time' -r
complete -c msb -n "__fish_msb_using_subcommand log" -l stream -d 'Only standard output, or only standard error' -r -f -a "stdout\t'Standard output, or the terminal'
stderr\t'Standard error'"
complete -c msb -n "__fish_msb_using_subcommand log" -s f -l follow -d 'Wait for more until the sandbox has ended'
complete -c msb -n "__fish_msb_using_subcommand log" -s t -l timestamps -d 'Put the time in front of each line'
complete -c msb -n "__fish_msb_using_subcommand log" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand log" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand log" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand stop" -l file -d 'Sandboxfile, or the folder it is in [default: the nearest one, searched upwards]' -r -F
complete -c msb -n "__fish_msb_using_subcommand stop" -s t -l time -d 'How long its processes may take after the stop signal before they are killed: 0s kills at once' -r
complete -c msb -n "__fish_msb_using_subcommand stop" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand stop" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand stop" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand restart" -l file -d 'Sandboxfile, or the folder it is in [default: the nearest one, searched upwards]' -r -F
complete -c msb -n "__fish_msb_using_subcommand restart" -s t -l time -d 'How long its processes may take after the stop signal before they are killed: 0s kills at once' -r
complete -c msb -n "__fish_msb_using_subcommand restart" -l vmm -d 'Hypervisor to use' -r -f -a "auto\t'libkrun where KVM runs guest code natively, else QEMU'
krun\t'libkrun'
qemu\t'QEMU'"
complete -c msb -n "__fish_msb_using_subcommand restart" -l kernel -d 'Guest kernel to boot: an ELF vmlinux [env: MSB_KERNEL]' -r -F
complete -c msb -n "__fish_msb_using_subcommand restart" -l timings -d 'Print how long each phase took to standard error'
complete -c msb -n "__fish_msb_using_subcommand restart" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand restart" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand restart" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand kill" -l file -d 'Sandboxfile, or the folder it is in [default: the nearest one, searched upwards]' -r -F
complete -c msb -n "__fish_msb_using_subcommand kill" -s s -l signal -d 'Signal, as name or number' -r
complete -c msb -n "__fish_msb_using_subcommand kill" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand kill" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand kill" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand pause" -l file -d 'Sandboxfile, or the folder it is in [default: the nearest one, searched upwards]' -r -F
complete -c msb -n "__fish_msb_using_subcommand pause" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand pause" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand pause" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand unpause" -l file -d 'Sandboxfile, or the folder it is in [default: the nearest one, searched upwards]' -r -F
complete -c msb -n "__fish_msb_using_subcommand unpause" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand unpause" -s h -l help -d 'Print help'
complete -c msb -n "__fish_msb_using_subcommand unpause" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand wait" -l file -d 'Sandboxfile, or the folder it is in [default: the nearest one, searched upwards]' -r -F
complete -c msb -n "__fish_msb_using_subcommand wait" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand wait" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand wait" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand status" -l format -d 'How to print' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c msb -n "__fish_msb_using_subcommand status" -s a -l all -d 'Also those that do not run'
complete -c msb -n "__fish_msb_using_subcommand status" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand status" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand ps" -l format -d 'How to print' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c msb -n "__fish_msb_using_subcommand ps" -s a -l all -d 'Also those that do not run'
complete -c msb -n "__fish_msb_using_subcommand ps" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand ps" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand ps" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand inspect" -l file -d 'Sandboxfile, or the folder it is in [default: the nearest one, searched upwards]' -r -F
complete -c msb -n "__fish_msb_using_subcommand inspect" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand inspect" -s h -l help -d 'Print help'
complete -c msb -n "__fish_msb_using_subcommand inspect" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand events" -l since -d 'Only what happened since: a duration such as 10m, or a time' -r
complete -c msb -n "__fish_msb_using_subcommand events" -l format -d 'How to print' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c msb -n "__fish_msb_using_subcommand events" -s f -l follow -d 'Wait for more'
complete -c msb -n "__fish_msb_using_subcommand events" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand events" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand events" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand cp" -l file -d 'Sandboxfile, or the folder it is in [default: the nearest one, searched upwards]' -r -F
complete -c msb -n "__fish_msb_using_subcommand cp" -l vmm -d 'Hypervisor to use' -r -f -a "auto\t'libkrun where KVM runs guest code natively, else QEMU'
krun\t'libkrun'
qemu\t'QEMU'"
complete -c msb -n "__fish_msb_using_subcommand cp" -l kernel -d 'Guest kernel to boot: an ELF vmlinux [env: MSB_KERNEL]' -r -F
complete -c msb -n "__fish_msb_using_subcommand cp" -s a -l archive -d 'Keep owner, group, attributes and setuid bits; on the host owners are kept for root only'
complete -c msb -n "__fish_msb_using_subcommand cp" -s L -l follow-link -d 'Copy what a symlink leads to when SRC is one'
complete -c msb -n "__fish_msb_using_subcommand cp" -l timings -d 'Print how long each phase took to standard error'
complete -c msb -n "__fish_msb_using_subcommand cp" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand cp" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand cp" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand diff" -l file -d 'Sandboxfile, or the folder it is in [default: the nearest one, searched upwards]' -r -F
complete -c msb -n "__fish_msb_using_subcommand diff" -l format -d 'How to print' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c msb -n "__fish_msb_using_subcommand diff" -l vmm -d 'Hypervisor to use' -r -f -a "auto\t'libkrun where KVM runs guest code natively, else QEMU'
krun\t'libkrun'
qemu\t'QEMU'"
complete -c msb -n "__fish_msb_using_subcommand diff" -l kernel -d 'Guest kernel to boot: an ELF vmlinux [env: MSB_KERNEL]' -r -F
complete -c msb -n "__fish_msb_using_subcommand diff" -l timings -d 'Print how long each phase took to standard error'
complete -c msb -n "__fish_msb_using_subcommand diff" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand diff" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand diff" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand metrics" -l file -d 'Sandboxfile, or the folder it is in [default: the nearest one, searched upwards]' -r -F
complete -c msb -n "__fish_msb_using_subcommand metrics" -l interval -d 'Time between two looks' -r
complete -c msb -n "__fish_msb_using_subcommand metrics" -l format -d 'How to print' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c msb -n "__fish_msb_using_subcommand metrics" -s w -l watch -d 'Go on until interrupted or all of them have ended'
complete -c msb -n "__fish_msb_using_subcommand metrics" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand metrics" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand metrics" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand top" -l file -d 'Sandboxfile, or the folder it is in [default: the nearest one, searched upwards]' -r -F
complete -c msb -n "__fish_msb_using_subcommand top" -l interval -d 'Time between two looks' -r
complete -c msb -n "__fish_msb_using_subcommand top" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand top" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand top" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand rm" -l file -d 'Sandboxfile, or the folder it is in [default: the nearest one, searched upwards]' -r -F
complete -c msb -n "__fish_msb_using_subcommand rm" -s f -l force -d 'Kill it first where it runs'
complete -c msb -n "__fish_msb_using_subcommand rm" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand rm" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand rm" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand rename" -l file -d 'Sandboxfile, or the folder it is in [default: the nearest one, searched upwards]' -r -F
complete -c msb -n "__fish_msb_using_subcommand rename" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand rename" -s h -l help -d 'Print help'
complete -c msb -n "__fish_msb_using_subcommand rename" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand clean" -l file -d 'Sandboxfile, or the folder it is in [default: the nearest one, searched upwards]' -r -F
complete -c msb -n "__fish_msb_using_subcommand clean" -s y -l yes -d 'Do not ask'
complete -c msb -n "__fish_msb_using_subcommand clean" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand clean" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand clean" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand lock" -s f -l file -d 'Sandboxfile, or the folder it is in [default: the nearest one, searched upwards]' -r -F
complete -c msb -n "__fish_msb_using_subcommand lock" -l locked -d 'Fail rather than change Sandboxfile.lock'
complete -c msb -n "__fish_msb_using_subcommand lock" -l frozen -d 'As --locked, and do not use the network'
complete -c msb -n "__fish_msb_using_subcommand lock" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand lock" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand lock" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand update" -s f -l file -d 'Sandboxfile, or the folder it is in [default: the nearest one, searched upwards]' -r -F
complete -c msb -n "__fish_msb_using_subcommand update" -l dry-run -d 'Only say what would change'
complete -c msb -n "__fish_msb_using_subcommand update" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand update" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand update" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand exe" -s e -l exec -d 'Program to run instead of the default one; its arguments come after `--`' -r
complete -c msb -n "__fish_msb_using_subcommand exe" -l env -d 'Set an environment variable, or with KEY alone pass on the caller\'s (can be repeated)' -r
complete -c msb -n "__fish_msb_using_subcommand exe" -l env-file -d 'Read environment variables from a file (can be repeated)' -r -F
complete -c msb -n "__fish_msb_using_subcommand exe" -l workdir -d 'Working directory in the sandbox' -r
complete -c msb -n "__fish_msb_using_subcommand exe" -l user -d 'User, as name or id, with an optional group: USER[:GROUP]' -r
complete -c msb -n "__fish_msb_using_subcommand exe" -l cpus -d 'Number of virtual CPUs [default: 1]' -r
complete -c msb -n "__fish_msb_using_subcommand exe" -l memory -d 'Memory: MiB, or with a unit such as 512M or 2G [default: 1024]' -r
complete -c msb -n "__fish_msb_using_subcommand exe" -l disk -d 'Size of the writable disk: MiB, or with a unit; only what is written takes space [default: 8G]' -r
complete -c msb -n "__fish_msb_using_subcommand exe" -s v -l volume -d 'Mount a folder or file of this machine (./src:/work), or a named volume (data:/var/lib/db), in the sandbox; :ro at the end makes it read-only (can be repeated)' -r -F
complete -c msb -n "__fish_msb_using_subcommand exe" -l tmpfs -d 'Mount memory in the sandbox, such as /tmp:size=64m (can be repeated)' -r
complete -c msb -n "__fish_msb_using_subcommand exe" -l vmm -d 'Hypervisor to use' -r -f -a "auto\t'libkrun where KVM runs guest code natively, else QEMU'
krun\t'libkrun'
qemu\t'QEMU'"
complete -c msb -n "__fish_msb_using_subcommand exe" -l kernel -d 'Guest kernel to boot: an ELF vmlinux [env: MSB_KERNEL]' -r -F
complete -c msb -n "__fish_msb_using_subcommand exe" -s i -l image -d 'IMAGE is an image (it always is; accepted for symmetry with `run`)'
complete -c msb -n "__fish_msb_using_subcommand exe" -s t -l tty -d 'Give the program a terminal [default: when standard input and output are one]'
complete -c msb -n "__fish_msb_using_subcommand exe" -s T -l no-tty -d 'Give the program pipes even on a terminal'
complete -c msb -n "__fish_msb_using_subcommand exe" -l timings -d 'Print how long each phase took to standard error'
complete -c msb -n "__fish_msb_using_subcommand exe" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand exe" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand exe" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand x" -s e -l exec -d 'Program to run instead of the default one; its arguments come after `--`' -r
complete -c msb -n "__fish_msb_using_subcommand x" -l env -d 'Set an environment variable, or with KEY alone pass on the caller\'s (can be repeated)' -r
complete -c msb -n "__fish_msb_using_subcommand x" -l env-file -d 'Read environment variables from a file (can be repeated)' -r -F
complete -c msb -n "__fish_msb_using_subcommand x" -l workdir -d 'Working directory in the sandbox' -r
complete -c msb -n "__fish_msb_using_subcommand x" -l user -d 'User, as name or id, with an optional group: USER[:GROUP]' -r
complete -c msb -n "__fish_msb_using_subcommand x" -l cpus -d 'Number of virtual CPUs [default: 1]' -r
complete -c msb -n "__fish_msb_using_subcommand x" -l memory -d 'Memory: MiB, or with a unit such as 512M or 2G [default: 1024]' -r
complete -c msb -n "__fish_msb_using_subcommand x" -l disk -d 'Size of the writable disk: MiB, or with a unit; only what is written takes space [default: 8G]' -r
complete -c msb -n "__fish_msb_using_subcommand x" -s v -l volume -d 'Mount a folder or file of this machine (./src:/work), or a named volume (data:/var/lib/db), in the sandbox; :ro at the end makes it read-only (can be repeated)' -r -F
complete -c msb -n "__fish_msb_using_subcommand x" -l tmpfs -d 'Mount memory in the sandbox, such as /tmp:size=64m (can be repeated)' -r
complete -c msb -n "__fish_msb_using_subcommand x" -l vmm -d 'Hypervisor to use' -r -f -a "auto\t'libkrun where KVM runs guest code natively, else QEMU'
krun\t'libkrun'
qemu\t'QEMU'"
complete -c msb -n "__fish_msb_using_subcommand x" -l kernel -d 'Guest kernel to boot: an ELF vmlinux [env: MSB_KERNEL]' -r -F
complete -c msb -n "__fish_msb_using_subcommand x" -s i -l image -d 'IMAGE is an image (it always is; accepted for symmetry with `run`)'
complete -c msb -n "__fish_msb_using_subcommand x" -s t -l tty -d 'Give the program a terminal [default: when standard input and output are one]'
complete -c msb -n "__fish_msb_using_subcommand x" -s T -l no-tty -d 'Give the program pipes even on a terminal'
complete -c msb -n "__fish_msb_using_subcommand x" -l timings -d 'Print how long each phase took to standard error'
complete -c msb -n "__fish_msb_using_subcommand x" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand x" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand x" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand install" -l name -d 'Name of the command' -r
complete -c msb -n "__fish_msb_using_subcommand install" -s e -l exec -d 'Program to run instead of the default one; its arguments come after `--`' -r
complete -c msb -n "__fish_msb_using_subcommand install" -l env -d 'Set an environment variable, or with KEY alone pass on the caller\'s (can be repeated)' -r
complete -c msb -n "__fish_msb_using_subcommand install" -l env-file -d 'Read environment variables from a file (can be repeated)' -r -F
complete -c msb -n "__fish_msb_using_subcommand install" -l workdir -d 'Working directory in the sandbox' -r
complete -c msb -n "__fish_msb_using_subcommand install" -l user -d 'User, as name or id, with an optional group: USER[:GROUP]' -r
complete -c msb -n "__fish_msb_using_subcommand install" -l cpus -d 'Number of virtual CPUs [default: 1]' -r
complete -c msb -n "__fish_msb_using_subcommand install" -l memory -d 'Memory: MiB, or with a unit such as 512M or 2G [default: 1024]' -r
complete -c msb -n "__fish_msb_using_subcommand install" -l disk -d 'Size of the writable disk: MiB, or with a unit; only what is written takes space [default: 8G]' -r
complete -c msb -n "__fish_msb_using_subcommand install" -s v -l volume -d 'Mount a folder or file of this machine (./src:/work), or a named volume (data:/var/lib/db), in the sandbox; :ro at the end makes it read-only (can be repeated)' -r -F
complete -c msb -n "__fish_msb_using_subcommand install" -l tmpfs -d 'Mount memory in the sandbox, such as /tmp:size=64m (can be repeated)' -r
complete -c msb -n "__fish_msb_using_subcommand install" -s i -l image -d 'IMAGE is an image (it always is; accepted for symmetry with `run`)'
complete -c msb -n "__fish_msb_using_subcommand install" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand install" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand install" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand i" -l name -d 'Name of the command' -r
complete -c msb -n "__fish_msb_using_subcommand i" -s e -l exec -d 'Program to run instead of the default one; its arguments come after `--`' -r
complete -c msb -n "__fish_msb_using_subcommand i" -l env -d 'Set an environment variable, or with KEY alone pass on the caller\'s (can be repeated)' -r
complete -c msb -n "__fish_msb_using_subcommand i" -l env-file -d 'Read environment variables from a file (can be repeated)' -r -F
complete -c msb -n "__fish_msb_using_subcommand i" -l workdir -d 'Working directory in the sandbox' -r
complete -c msb -n "__fish_msb_using_subcommand i" -l user -d 'User, as name or id, with an optional group: USER[:GROUP]' -r
complete -c msb -n "__fish_msb_using_subcommand i" -l cpus -d 'Number of virtual CPUs [default: 1]' -r
complete -c msb -n "__fish_msb_using_subcommand i" -l memory -d 'Memory: MiB, or with a unit such as 512M or 2G [default: 1024]' -r
complete -c msb -n "__fish_msb_using_subcommand i" -l disk -d 'Size of the writable disk: MiB, or with a unit; only what is written takes space [default: 8G]' -r
complete -c msb -n "__fish_msb_using_subcommand i" -s v -l volume -d 'Mount a folder or file of this machine (./src:/work), or a named volume (data:/var/lib/db), in the sandbox; :ro at the end makes it read-only (can be repeated)' -r -F
complete -c msb -n "__fish_msb_using_subcommand i" -l tmpfs -d 'Mount memory in the sandbox, such as /tmp:size=64m (can be repeated)' -r
complete -c msb -n "__fish_msb_using_subcommand i" -s i -l image -d 'IMAGE is an image (it always is; accepted for symmetry with `run`)'
complete -c msb -n "__fish_msb_using_subcommand i" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand i" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand i" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand uninstall" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand uninstall" -s h -l help -d 'Print help'
complete -c msb -n "__fish_msb_using_subcommand uninstall" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand pull" -l platform -d 'Platform to get them for: OS/ARCHITECTURE[/VARIANT] [default: this machine\'s]' -r
complete -c msb -n "__fish_msb_using_subcommand pull" -l policy -d 'When to ask the registry' -r -f -a "always\t'Always: a tag may have moved on'
missing\t'When the image is not on this machine'
never\t'Never: fail when the image is not on this machine'"
complete -c msb -n "__fish_msb_using_subcommand pull" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand pull" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand pull" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand load" -s i -l input -d 'Archive or folder [default: standard input]' -r -F
complete -c msb -n "__fish_msb_using_subcommand load" -s t -l tag -d 'Name for the image, instead of the one in the archive' -r
complete -c msb -n "__fish_msb_using_subcommand load" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand load" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand load" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand login" -s u -l username -d 'User name [default: asked for]' -r
complete -c msb -n "__fish_msb_using_subcommand login" -l password-stdin -d 'Read the password, or an access token, from standard input [default: asked for]'
complete -c msb -n "__fish_msb_using_subcommand login" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand login" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand login" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand logout" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand logout" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand logout" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand save" -s o -l output -d 'File to write, or folder [default: standard output]' -r -F
complete -c msb -n "__fish_msb_using_subcommand save" -l format -d 'How to write it' -r -f -a "oci-archive\t'A tar of an OCI image layout; read by docker (25 and later), podman, skopeo, nerdctl and msb'
docker-archive\t'What `docker save` wrote before; keeps the image\'s ID but has no manifest, so not its digest'
oci-dir\t'An OCI image layout as a folder'"
complete -c msb -n "__fish_msb_using_subcommand save" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand save" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand save" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand push" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand push" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand push" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand tag" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand tag" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand tag" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand df" -l format -d 'How to print' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c msb -n "__fish_msb_using_subcommand df" -s v -l verbose -d 'Show each image, too, and who uses it'
complete -c msb -n "__fish_msb_using_subcommand df" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand df" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand df" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand image; and not __fish_seen_subcommand_from ls list inspect history rm remove prune" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand image; and not __fish_seen_subcommand_from ls list inspect history rm remove prune" -s h -l help -d 'Print help'
complete -c msb -n "__fish_msb_using_subcommand image; and not __fish_seen_subcommand_from ls list inspect history rm remove prune" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand image; and not __fish_seen_subcommand_from ls list inspect history rm remove prune" -f -a "ls" -d 'List the images on this machine by name'
complete -c msb -n "__fish_msb_using_subcommand image; and not __fish_seen_subcommand_from ls list inspect history rm remove prune" -f -a "list" -d 'List the images on this machine by name'
complete -c msb -n "__fish_msb_using_subcommand image; and not __fish_seen_subcommand_from ls list inspect history rm remove prune" -f -a "inspect" -d 'Show everything known about images'
complete -c msb -n "__fish_msb_using_subcommand image; and not __fish_seen_subcommand_from ls list inspect history rm remove prune" -f -a "history" -d 'Show how an image was built, the latest step first'
complete -c msb -n "__fish_msb_using_subcommand image; and not __fish_seen_subcommand_from ls list inspect history rm remove prune" -f -a "rm" -d 'Remove images'
complete -c msb -n "__fish_msb_using_subcommand image; and not __fish_seen_subcommand_from ls list inspect history rm remove prune" -f -a "remove" -d 'Remove images'
complete -c msb -n "__fish_msb_using_subcommand image; and not __fish_seen_subcommand_from ls list inspect history rm remove prune" -f -a "prune" -d 'Remove images that nothing uses'
complete -c msb -n "__fish_msb_using_subcommand image; and __fish_seen_subcommand_from ls" -l format -d 'How to print' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c msb -n "__fish_msb_using_subcommand image; and __fish_seen_subcommand_from ls" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand image; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand image; and __fish_seen_subcommand_from ls" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand image; and __fish_seen_subcommand_from list" -l format -d 'How to print' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c msb -n "__fish_msb_using_subcommand image; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand image; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand image; and __fish_seen_subcommand_from list" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand image; and __fish_seen_subcommand_from inspect" -l format -d 'How to print' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c msb -n "__fish_msb_using_subcommand image; and __fish_seen_subcommand_from inspect" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand image; and __fish_seen_subcommand_from inspect" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand image; and __fish_seen_subcommand_from inspect" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand image; and __fish_seen_subcommand_from history" -l format -d 'How to print' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c msb -n "__fish_msb_using_subcommand image; and __fish_seen_subcommand_from history" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand image; and __fish_seen_subcommand_from history" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand image; and __fish_seen_subcommand_from history" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand image; and __fish_seen_subcommand_from rm" -s f -l force -d 'Remove it although sandboxes use it; one that runs goes on, others pull it again'
complete -c msb -n "__fish_msb_using_subcommand image; and __fish_seen_subcommand_from rm" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand image; and __fish_seen_subcommand_from rm" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand image; and __fish_seen_subcommand_from rm" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand image; and __fish_seen_subcommand_from remove" -s f -l force -d 'Remove it although sandboxes use it; one that runs goes on, others pull it again'
complete -c msb -n "__fish_msb_using_subcommand image; and __fish_seen_subcommand_from remove" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand image; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand image; and __fish_seen_subcommand_from remove" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand image; and __fish_seen_subcommand_from prune" -l older-than -d 'Remove images, named or not, that were not pulled, loaded or started for so long: 12h, 30d, 4w' -r
complete -c msb -n "__fish_msb_using_subcommand image; and __fish_seen_subcommand_from prune" -l keep-storage -d 'Remove images, named or not, until no more than this is left, the longest unused first' -r
complete -c msb -n "__fish_msb_using_subcommand image; and __fish_seen_subcommand_from prune" -l format -d 'How to print' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c msb -n "__fish_msb_using_subcommand image; and __fish_seen_subcommand_from prune" -s a -l all -d 'Remove images that have a name, too'
complete -c msb -n "__fish_msb_using_subcommand image; and __fish_seen_subcommand_from prune" -l dry-run -d 'Only say what would be removed'
complete -c msb -n "__fish_msb_using_subcommand image; and __fish_seen_subcommand_from prune" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand image; and __fish_seen_subcommand_from prune" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand image; and __fish_seen_subcommand_from prune" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand volume; and not __fish_seen_subcommand_from create ls list inspect rm remove prune" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand volume; and not __fish_seen_subcommand_from create ls list inspect rm remove prune" -s h -l help -d 'Print help'
complete -c msb -n "__fish_msb_using_subcommand volume; and not __fish_seen_subcommand_from create ls list inspect rm remove prune" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand volume; and not __fish_seen_subcommand_from create ls list inspect rm remove prune" -f -a "create" -d 'Make named volumes'
complete -c msb -n "__fish_msb_using_subcommand volume; and not __fish_seen_subcommand_from create ls list inspect rm remove prune" -f -a "ls" -d 'List the named volumes'
complete -c msb -n "__fish_msb_using_subcommand volume; and not __fish_seen_subcommand_from create ls list inspect rm remove prune" -f -a "list" -d 'List the named volumes'
complete -c msb -n "__fish_msb_using_subcommand volume; and not __fish_seen_subcommand_from create ls list inspect rm remove prune" -f -a "inspect" -d 'Show everything known about named volumes'
complete -c msb -n "__fish_msb_using_subcommand volume; and not __fish_seen_subcommand_from create ls list inspect rm remove prune" -f -a "rm" -d 'Remove named volumes and all they hold'
complete -c msb -n "__fish_msb_using_subcommand volume; and not __fish_seen_subcommand_from create ls list inspect rm remove prune" -f -a "remove" -d 'Remove named volumes and all they hold'
complete -c msb -n "__fish_msb_using_subcommand volume; and not __fish_seen_subcommand_from create ls list inspect rm remove prune" -f -a "prune" -d 'Remove named volumes that no sandbox is defined to use'
complete -c msb -n "__fish_msb_using_subcommand volume; and __fish_seen_subcommand_from create" -l size -d 'The most a volume holds; only what is written takes space [default: 8G]' -r
complete -c msb -n "__fish_msb_using_subcommand volume; and __fish_seen_subcommand_from create" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand volume; and __fish_seen_subcommand_from create" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand volume; and __fish_seen_subcommand_from create" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand volume; and __fish_seen_subcommand_from ls" -l format -d 'How to print' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c msb -n "__fish_msb_using_subcommand volume; and __fish_seen_subcommand_from ls" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand volume; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand volume; and __fish_seen_subcommand_from ls" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand volume; and __fish_seen_subcommand_from list" -l format -d 'How to print' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c msb -n "__fish_msb_using_subcommand volume; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand volume; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand volume; and __fish_seen_subcommand_from list" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand volume; and __fish_seen_subcommand_from inspect" -l format -d 'How to print' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c msb -n "__fish_msb_using_subcommand volume; and __fish_seen_subcommand_from inspect" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand volume; and __fish_seen_subcommand_from inspect" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand volume; and __fish_seen_subcommand_from inspect" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand volume; and __fish_seen_subcommand_from rm" -s f -l force -d 'Remove it although sandboxes are defined to use it; they start with an empty one'
complete -c msb -n "__fish_msb_using_subcommand volume; and __fish_seen_subcommand_from rm" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand volume; and __fish_seen_subcommand_from rm" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand volume; and __fish_seen_subcommand_from rm" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand volume; and __fish_seen_subcommand_from remove" -s f -l force -d 'Remove it although sandboxes are defined to use it; they start with an empty one'
complete -c msb -n "__fish_msb_using_subcommand volume; and __fish_seen_subcommand_from remove" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand volume; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand volume; and __fish_seen_subcommand_from remove" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand volume; and __fish_seen_subcommand_from prune" -l format -d 'How to print' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c msb -n "__fish_msb_using_subcommand volume; and __fish_seen_subcommand_from prune" -s f -l force -d 'Do not ask'
complete -c msb -n "__fish_msb_using_subcommand volume; and __fish_seen_subcommand_from prune" -l dry-run -d 'Only say what would be removed'
complete -c msb -n "__fish_msb_using_subcommand volume; and __fish_seen_subcommand_from prune" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand volume; and __fish_seen_subcommand_from prune" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand volume; and __fish_seen_subcommand_from prune" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand doctor" -l vmm -d 'Hypervisor to use' -r -f -a "auto\t'libkrun where KVM runs guest code natively, else QEMU'
krun\t'libkrun'
qemu\t'QEMU'"
complete -c msb -n "__fish_msb_using_subcommand doctor" -l kernel -d 'Guest kernel to boot: an ELF vmlinux [env: MSB_KERNEL]' -r -F
complete -c msb -n "__fish_msb_using_subcommand doctor" -l format -d 'How to print' -r -f -a "table\t'For people'
json\t'For programs'"
complete -c msb -n "__fish_msb_using_subcommand doctor" -l timings -d 'Print how long each phase took to standard error'
complete -c msb -n "__fish_msb_using_subcommand doctor" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c msb -n "__fish_msb_using_subcommand doctor" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand self; and not __fish_seen_subcommand_from link" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand self; and not __fish_seen_subcommand_from link" -s h -l help -d 'Print help'
complete -c msb -n "__fish_msb_using_subcommand self; and not __fish_seen_subcommand_from link" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand self; and not __fish_seen_subcommand_from link" -f -a "link" -d 'Make the links msr, msx and msi'
complete -c msb -n "__fish_msb_using_subcommand self; and __fish_seen_subcommand_from link" -l dir -d 'Folder for the links [default: the folder msb is in]' -r -f -a "(__fish_complete_directories)"
complete -c msb -n "__fish_msb_using_subcommand self; and __fish_seen_subcommand_from link" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand self; and __fish_seen_subcommand_from link" -s h -l help -d 'Print help'
complete -c msb -n "__fish_msb_using_subcommand self; and __fish_seen_subcommand_from link" -s V -l version -d 'Print version'
complete -c msb -n "__fish_msb_using_subcommand completion" -s q -l quiet -d 'Print errors only'
complete -c msb -n "__fish_msb_using_subcommand completion" -s h -l help -d 'Print help'
complete -c msb -n "__fish_msb_using_subcommand completion" -s V -l version -d 'Print version'
