#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn reads_every_field() {
    let diff_id = Digest::sha256(b"layer");
    let text = json!({
        "created": "2024-05-01T10:00:00.123456789Z", "architecture": "amd64", "os": "linux",
        "config": {
            "Entrypoint": ["/entry", "-x"], "Cmd": ["python3"], "User": "app:staff", "WorkingDir": "/srv",
            "Env": ["PATH=/bin", "EQ=a=b", "BARE", "=odd"], "StopSignal": "SIGINT",
            "Labels": {"a": "b"}, "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "Volumes": {"/data": {}},
        },
        "rootfs": {"type": "layers", "diff_ids": [diff_id]}, "history": [{"created_by": "x"}],
    });
    let config = ImageConfig::parse(text.to_string().as_bytes()).unwrap();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(config.platform.to_string(), "linux/amd64");
    assert_eq!((config.entrypoint.len(), config.cmd.as_slice()), (2, &["python3".to_owned()][..]));
    assert_eq!(config.env, [pair("PATH", "/bin"), pair("EQ", "a=b"), pair("BARE", "")]);
    assert_eq!(config.user.as_deref(), Some("app:staff"));
    assert_eq!(config.working_dir.as_deref(), Some("/srv"));
    assert_eq!(config.stop_signal.as_deref(), Some("SIGINT"));
    assert_eq!(config.exposed_ports, ["53/udp", "80/tcp"]);
    assert_eq!(
        (config.volumes, config.labels.len(), config.diff_ids),
        (vec!["/data".into()], 1, vec![diff_id])
    );
}

#[test]
fn takes_nulls_and_lone_strings() {
    let text = br#"{"os":"linux","architecture":"amd64","config":{"Entrypoint":"sh","Cmd":null,"Env":null,
        "Labels":null,"ExposedPorts":null,"User":"","WorkingDir":null},"rootfs":{"diff_ids":null}}"#;
    let config = ImageConfig::parse(text).unwrap();
    assert_eq!(config.entrypoint, ["sh"]);
    assert_eq!((config.user, config.working_dir, config.cmd), (None, None, vec![]));
    assert!(ImageConfig::parse(br#"{"config":null,"rootfs":null}"#).is_ok());
}

#[test]
fn refuses_what_cannot_run() {
    let nul = br#"{"config":{"Env":["A=x\u0000y"]}}"#;
    assert!(matches!(ImageConfig::parse(nul), Err(ConfigError::Nul("Env"))));
    assert!(matches!(ImageConfig::parse(br#"{"config":{"Cmd":[1]}}"#), Err(ConfigError::Json(_))));
    assert!(matches!(ImageConfig::parse(b"null"), Err(ConfigError::Json(_))));
    assert!(matches!(ImageConfig::parse(&vec![b' '; 9 << 20]), Err(ConfigError::TooLarge)));
    let ids = vec![Digest::sha256(b""); MAX_LAYERS + 1];
    let many = json!({"rootfs": {"diff_ids": ids}}).to_string();
    assert!(matches!(ImageConfig::parse(many.as_bytes()), Err(ConfigError::TooManyLayers(_))));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = ImageConfig::parse(&bytes);
    }

    #[test]
    fn arbitrary_strings_come_through(words in proptest::collection::vec("[^\0]*", 0..5), value in "[^\0]*") {
        let text = json!({"config": {"Cmd": words, "Env": [format!("A={value}")]}}).to_string();
        let config = ImageConfig::parse(text.as_bytes()).unwrap();
        prop_assert_eq!(config.cmd, words);
        prop_assert_eq!(&config.env[0].1, &value);
    }
}
