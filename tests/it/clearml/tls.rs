//! HTTPS: certificates are checked, unless the user says that any will do.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::double::{Double, python, removed};
use super::seeds::task;
use crate::start::Start;
use crate::world::{NOW, Run, is_present};

/// Passes bytes on between HTTPS and the double. It prints its port.
const PROXY: &str = r#"
import socket, ssl, sys, threading
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
def copy(a, b):
    try:
        while data := a.recv(65536):
            b.sendall(data)
    except OSError:
        pass
    for end in (a, b):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
def serve(plain):
    try:
        near = context.wrap_socket(plain, server_side=True)
    except OSError:
        return
    far = socket.create_connection(("127.0.0.1", int(sys.argv[3])))
    threading.Thread(target=copy, args=(near, far), daemon=True).start()
    copy(far, near)
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"#;

struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_certificate_must_be_trusted_unless_the_user_says_that_any_will_do() {
    let double = Double::with_tasks(&[task("a", &[])]);
    let (key, certificate) = (double.path("key.pem"), double.path("certificate.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
    openssl.args(["-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout"]).arg(&key);
    openssl.args(["-addext", "subjectAltName=DNS:localhost"]);
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE", "-out"]).arg(&certificate);
    let made = openssl.finish().is_ok_and(|output| output.status.success());
    if !is_present(made, "openssl") {
        return;
    }
    let port = double.api.rsplit(':').next().unwrap().to_owned();
    let mut proxy = Command::new(python());
    proxy.args(["-c", PROXY]).arg(&certificate).arg(&key).arg(port);
    let mut proxy = Proxy(proxy.stdout(Stdio::piped()).stderr(Stdio::null()).start().unwrap());
    let mut port = String::new();
    BufReader::new(proxy.0.stdout.take().unwrap()).read_line(&mut port).unwrap();
    let run = |name: &str, value: &str| {
        let mut command = double.command(&["run", "--dry-run", "--now", NOW, "--format", "json"]);
        command.env("CLEARML_API_HOST", format!("https://localhost:{}", port.trim()));
        Run::of({
            command.env(name, value);
            command
        })
    };
    let unknown = run("LANG", "C");
    let text = &unknown.exits(4).stderr;
    assert!(text.contains("cannot be reached") && text.contains("ertificate"), "{text}");
    assert!(double.requests().is_empty());
    let trusted = run("SSL_CERT_FILE", certificate.to_str().unwrap());
    assert_eq!(removed(&trusted.exits(0).json()).0, 1);
    let any = run("CLEARML_API_HOST_VERIFY_CERT", "false");
    assert_eq!(removed(&any.exits(0).json()).0, 1);
}
