//! Secrets by HTTP/2, as nginx and curl speak it.

use std::fs;

use msb_test_support::{Vm, wait_until};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::Internet;
use crate::suite::{Suite, tests};

pub(crate) fn register(suite: &mut Suite) {
    tests!(suite, vm_as_root: a_value_goes_by_http2_and_not_by_http3);
}

const VALUE: &str = "a-value-that-nginx-sees";

/// nginx with TLS for `api.example` and `other.example`, which writes down what it was asked; the file of its authority is what
/// `config.toml` names.
fn serve(vm: &Vm, internet: &mut Internet) {
    let folder = vm.root().join("site");
    fs::create_dir_all(&folder).unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let config = vm.home().join("config");
    fs::create_dir_all(&config).unwrap();
    fs::write(config.join("company.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(config.join("config.toml"), "[secrets]\nca = \"company.pem\"\n").unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let names = vec!["api.example".to_owned(), "other.example".to_owned()];
    let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    fs::write(folder.join("leaf.pem"), leaf.pem()).unwrap();
    fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
    let folder = folder.to_str().unwrap();
    let server = format!(
        "listen 93.184.216.34:443 ssl http2; ssl_certificate {folder}/leaf.pem; ssl_certificate_key {folder}/key.pem; \
         location / {{ return 200 \"heard by $server_protocol\\n\"; }}"
    );
    let config = format!(
        "daemon off; master_process off; user root; pid {folder}/pid; error_log stderr; events {{}} http {{ \
         log_format asked '$server_protocol $host [$http_x_key]'; access_log {folder}/asked asked; server {{ {server} }} }}"
    );
    let config = vm.write("nginx.conf", config);
    let nginx = ["nginx", "-p", folder, "-e", "stderr", "-c", config.to_str().unwrap()];
    internet.serve("i", &nginx, ("93.184.216.34", 443));
    internet.name_server("i", "192.88.1.1", &["--address=/example/93.184.216.34"]);
}

fn a_value_goes_by_http2_and_not_by_http3(vm: &Vm) {
    let mut internet = Internet::with(vm, &["--without-names"]);
    serve(vm, &mut internet);
    let image = vm.image("clients");
    vm.write(
        "Sandboxfile",
        format!(
            "sandboxes:\n  app:\n    image: {image}\n    secrets:\n      KEY: {{from: {{env: TEST_VALUE}}, hosts: api.example}}\n      \
             OTHER: {{from: {{env: TEST_VALUE}}, hosts: other.example}}\n"
        ),
    );
    let quic = "import socket\n\
        peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
        peer.settimeout(60)\n\
        peer.connect(('api.example', 443))\n\
        try:\n  \
          peer.send(bytes([0xc0, 0, 0, 0, 1]) + bytes(1200))\n  \
          peer.recv(1)\n\
        except ConnectionRefusedError:\n  \
          print('refused')\n";
    let script = "
curl -sS --http2 -w '%{http_version} %{response_code}\n' -H \"X-Key: $KEY\" https://api.example/
curl -sS --http1.1 -w '%{http_version} %{response_code}\n' -H \"X-Key: $KEY\" https://api.example/
curl -sS --http2 -w '%{http_version} %{response_code}\n' -H \"X-Key: $OTHER\" https://api.example/
curl -sS --http2 -w '%{http_version} %{response_code}\n' -H \"X-Key: $KEY\" https://other.example/
python3 -c \"$1\"
";
    let run = internet.msb(vm, ["run", "app", "--", "sh", "-c", script, "sh", quic]);
    let run = run.env("TEST_VALUE", VALUE).run().success();
    run.stdout_is(
        "heard by HTTP/2.0\n2 200\nheard by HTTP/1.1\n1.1 200\n\
         msb: the secret `OTHER` is not for api.example\n\
         hint: it is for other.example; if api.example may have it, add that to the secret's `hosts`\n2 403\n\
         msb: the secret `KEY` is not for other.example\n\
         hint: it is for api.example; if other.example may have it, add that to the secret's `hosts`\n2 403\nrefused\n",
    );
    let asked = fs::read_to_string(vm.root().join("site/asked")).unwrap();
    assert_eq!(asked, format!("HTTP/2.0 api.example [{VALUE}]\nHTTP/1.1 api.example [{VALUE}]\n"));
    wait_until(vm.hypervisor.limit(), "the refusals are recorded", || {
        let events = vm.msb(["events", "app"]).run().success().out();
        events.contains("net-secret") && events.contains("HTTP/3 with api.example is refused")
    });
}
