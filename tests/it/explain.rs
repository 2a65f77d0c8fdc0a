//! What the network of a sandbox is said to be, in files and flags: no machine is started.

use msb_test_support::TestEnv;

use crate::suite::{Suite, tests};

pub(crate) fn register(suite: &mut Suite) {
    tests!(suite, cli: rules_decide_in_order, json_has_the_rule, names_are_refused_without_a_question, callers, mistakes, added_to_a_file);
}

/// Rules of the command line come before those of the file, and those before the scope.
fn rules_decide_in_order(env: &TestEnv) {
    env.write(
        "Sandboxfile",
        "sandboxes:\n  app:\n    image: x\n    network:\n      - allow 10.0.0.5:5432\n      - deny lan\n",
    );
    let explain = |words: &[&str]| env.msb([&["net", "explain"], words].concat()).run().success();
    explain(&["app", "tcp://10.0.0.5:5432"])
        .stdout_has("allowed")
        .stdout_has("rule 1, `allow 10.0.0.5:5432`");
    explain(&["app", "tcp://10.0.0.5:22"]).stdout_has("denied").stdout_has("rule 2, `deny lan`");
    explain(&["app", "--allow", "lan:22", "tcp://10.0.0.5:22"]).stdout_has("rule 1, `allow lan:22`");
    explain(&["app", "https://169.254.169.254/latest"]).stdout_has("denied").stdout_has("metadata services");
    explain(&["app", "host.msb.internal:5432"]).stdout_has("denied").stdout_has("the host");
    explain(&["--scope", "any", "host:5432"]).stdout_has("allowed").stdout_has("scope `any`");
    explain(&["--deny", "1.1.1.1", "--allow", "any", "https://1.1.1.1"]).stdout_has("denied");
    explain(&["--allow", "any", "--deny", "1.1.1.1", "https://1.1.1.1"]).stdout_has("allowed");
}

fn json_has_the_rule(env: &TestEnv) {
    let words = ["net", "explain", "--deny", "tcp://10.0.0.0/8:22", "--format", "json", "10.1.2.3:22"];
    env.msb(words)
        .run()
        .stdout_has(r#""allowed": false"#)
        .stdout_has(r#""class": "lan""#)
        .stdout_has(r#""rule": "deny tcp://10.0.0.0/8:22""#);
}

fn names_are_refused_without_a_question(env: &TestEnv) {
    env.msb(["net", "explain", "--scope", "none", "--allow", "*.example.com", "https://example.org"])
        .run()
        .stdout_has("look up example.org")
        .stdout_has("denied")
        .stdout_has("only names are looked up that a rule allows");
}

fn callers(env: &TestEnv) {
    let from = |words: &[&str]| env.msb([&["net", "explain", "--from"], words].concat()).run().success();
    from(&["-p", "0.0.0.0:8080:80", "192.168.1.5:80"]).stdout_has("allowed").stdout_has("published");
    from(&["-p", "8080:80", "192.168.1.5:80"])
        .stdout_has("denied")
        .stdout_has("published on 127.0.0.1 and [::1] alone; publish with -p 0.0.0.0:8080:80");
    from(&["-p", "8080:80", "192.168.1.5:8080"]).stdout_has("denied").stdout_has("ask for the sandbox's, 80");
    from(&["-p", "0.0.0.0:8080:80", "--deny", "from lan", "192.168.1.5:80"])
        .stdout_has("rule 1, `deny from lan`");
}

fn mistakes(env: &TestEnv) {
    let usage = |words: &[&str], said: &[&str]| {
        let finished = env.msb([&["run", "app"], words].concat()).run().code(2);
        said.iter().fold(finished, |finished, words| finished.stderr_has(words));
    };
    env.write("Sandboxfile", "sandboxes:\n  app:\n    image: x\n    ports: [8080:80]\n");
    usage(&["--port", "8080:81"], &["publishes port 8080", "`8080:80` does so already", "0 for a free one"]);
    for (peer, said) in [
        ("lan:80", "more than one place"),
        ("x.example", "which port"),
        ("1.1.1.1:99999", "is not a port"),
        ("ftp://x", "is not a protocol"),
        ("private:80", "is no group of addresses"),
    ] {
        env.msb(["net", "explain", "app", peer]).run().code(2).stderr_has(said);
    }
    env.msb(["net", "explain", "ap", "x.example:80"]).run().failed_saying(&["did you mean `app`"]);
    for (line, words) in [
        ("network: [allow ftp://x]", "`ftp` is not a protocol"),
        ("scope: lan", "none, group, public and any"),
        ("ports: [8080:80, 127.0.0.1:x:80]", "`x` is not a port"),
        ("ports: [8080:80, '8080:81']", "publishes port 8080"),
    ] {
        env.write("Sandboxfile", format!("sandboxes:\n  app:\n    image: python\n    {line}\n"));
        env.msb(["list"]).run().failed_saying(&[words, "Sandboxfile:4"]);
    }
}

/// What `add` writes is what was said.
fn added_to_a_file(env: &TestEnv) {
    env.write("Sandboxfile", "sandboxes:\n");
    let flags = ["--scope", "none", "--allow", "*.example.com:443", "--deny", "from any:22", "-p", "8080:80"];
    env.msb([&["add", "app", "--image", "x"][..], &flags].concat()).run().success();
    let text = env.read("Sandboxfile");
    for line in ["    scope: none\n", "      - \"allow *.example.com:443\"\n", "      - deny from any:22\n"] {
        assert!(text.contains(line), "{text}");
    }
    env.msb(["net", "explain", "app", "--from", "127.0.0.1:80"]).run().stdout_has("allowed");
}
