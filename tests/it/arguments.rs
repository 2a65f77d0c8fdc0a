//! Arguments, environment and scripts arrive as they were given.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use msb_test_support::Vm;

use crate::suite::{Suite, tests};

/// Each is one argument or value.
const ODD: [&str; 13] = [
    "",
    " ",
    "two  words ",
    "a\nb\n",
    "tab\tand \\ backslash",
    "it's",
    "say \"hi\"",
    "$HOME `id` $(id) ${x}",
    "* ? [a] {b,c} ~",
    "grüß dich ☃ 🦀",
    "--flag=value",
    "-",
    "%s\u{1b}[31m\u{7f}\u{1}",
];

pub(crate) fn register(suite: &mut Suite) {
    tests!(suite, vm: odd_arguments, no_utf8_argument, long_argument, many_arguments, odd_environment, long_environment);
    tests!(suite, vm: odd_script, long_script, script_arguments, start_script_takes_arguments, exec_flag);
}

/// What `printf '%s\0' ARGS…` prints.
fn separated(args: &[&str]) -> String {
    args.iter().map(|arg| format!("{arg}\0")).collect()
}

fn odd_arguments(vm: &Vm) {
    vm.msx("busybox", ["printf", r"%s\0"]).args(ODD).run().success().stdout_is(separated(&ODD));
}

fn no_utf8_argument(vm: &Vm) {
    let bytes = vec![b'a', 0xFF, 0x80, b'z'];
    vm.msx("busybox", ["printf", "%s"])
        .arg(OsString::from_vec(bytes.clone()))
        .run()
        .success()
        .stdout_is(bytes);
}

/// One argument may have 128 KiB on Linux; the kernel's command line, which must not carry it, 2 KiB.
fn long_argument(vm: &Vm) {
    let long = "grüß'\"\n$".repeat(10_000);
    vm.msx("busybox", ["printf", "%s", &long]).run().success().stdout_is(long);
}

fn many_arguments(vm: &Vm) {
    let many: Vec<String> = (0..5000).map(|number| format!("argument {number}")).collect();
    vm.msx("busybox", ["sh", "-c", "echo $#; eval echo \\${5000}", "sh"])
        .args(many)
        .run()
        .success()
        .stdout_is("5000\nargument 4999\n");
}

fn odd_environment(vm: &Vm) {
    let mut run = vm.program("msx").arg(vm.image("busybox"));
    for (number, value) in ODD.iter().enumerate() {
        run = run.args(["--env", &format!("ODD{number}={value}")]);
    }
    let names: Vec<String> = (0..ODD.len()).map(|number| format!("\"$ODD{number}\"")).collect();
    let script = format!(r"printf '%s\0' {}", names.join(" "));
    run.args(["--", "sh", "-c", &script]).run().success().stdout_is(separated(&ODD));
}

fn long_environment(vm: &Vm) {
    let long = "ü".repeat(50_000);
    let run = vm.program("msx").arg(vm.image("busybox")).arg("--env").arg(format!("LONG={long}"));
    run.args(["--", "sh", "-c", "printf '%s' \"$LONG\""]).run().success().stdout_is(long);
}

/// A Sandboxfile with one sandbox `app` from busybox and one script.
fn project(vm: &Vm, name: &str, body: &str) {
    // JSON is YAML but for one character.
    let body = serde_json::to_string(body).unwrap().replace('\u{7f}', r"\u007f");
    let image = vm.image("busybox");
    vm.write(
        "Sandboxfile",
        format!(
            "sandboxes:\n  app:\n    image: {image}\n    memory: 256\n    scripts:\n      {name}: {body}\n"
        ),
    );
}

fn odd_script(vm: &Vm) {
    let quoted = ODD.map(|text| format!("'{}'", text.replace('\'', r"'\''")));
    project(vm, "odd", &format!("printf '%s\\0' {}", quoted.join(" ")));
    vm.program("msr").arg("app~odd").run().success().stdout_is(separated(&ODD));
}

fn long_script(vm: &Vm) {
    let long = "# a comment to make it long\n".repeat(4000);
    project(vm, "long", &format!("{long}echo the end\n"));
    vm.program("msr").arg("app~long").run().success().stdout_is("the end\n");
}

fn script_arguments(vm: &Vm) {
    project(vm, "test", r#"printf '%s\0' "$@""#);
    vm.program("msr").args(["app~test", "--"]).args(ODD).run().success().stdout_is(separated(&ODD));
}

fn start_script_takes_arguments(vm: &Vm) {
    project(vm, "start", r#"printf '%s\0' "$@"; exit 3"#);
    vm.program("msr")
        .args(["app", "--"])
        .args(["-v", "two words"])
        .run()
        .code(3)
        .stdout_is("-v\0two words\0");
}

/// `-e` names one program, which is not split; the rest are its arguments.
fn exec_flag(vm: &Vm) {
    project(vm, "start", "echo not this");
    vm.msb(["run", "app", "-e", "/bin/sh", "--", "-c", "echo hi"]).run().success().stdout_is("hi\n");
    vm.msb(["exe", &vm.image("busybox"), "-e", "/bin/echo", "--", "a  b", "c"])
        .run()
        .success()
        .stdout_is("a  b c\n");
}
