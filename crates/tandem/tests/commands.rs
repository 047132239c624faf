//! The binary against a master that plays back answers: what is asked, what is printed, and the
//! exit code. What a real master answers is shown elsewhere.
// clippy takes only functions marked as tests for tests; the helpers here are no less.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::process::{Command, Output};
use std::sync::mpsc;
use std::time::Duration;

/// `"PUT /v2/apps/x?force=false"` → status and body.
type Script = BTreeMap<&'static str, (u16, &'static str)>;

/// Answers by script until the test ends; tells every request, with its body.
fn master(script: Script) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let asked = answer(stream, &script);
            if tell.send(asked).is_err() {
                return;
            }
        }
    });
    (url, told)
}

fn answer(stream: impl Read + Write, script: &Script) -> String {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim() {
            "" => break,
            line => head.push(line.to_ascii_lowercase()),
        }
    }
    let length = head
        .iter()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).unwrap();
    let request = head[0].trim_end_matches(" http/1.1").to_owned();
    let known = script
        .iter()
        .find(|(asked, _)| asked.to_ascii_lowercase() == request);
    let (status, text) = known.map_or((404, r#"{"message":"no such path"}"#), |(_, answer)| {
        *answer
    });
    let answer = format!(
        "HTTP/1.1 {status} X\r\ncontent-length: {}\r\ntandem-warning: /x: does nothing yet\r\n\r\n{text}",
        text.len()
    );
    reader.get_mut().write_all(answer.as_bytes()).unwrap();
    format!("{request} {}", String::from_utf8(body).unwrap())
        .trim()
        .to_owned()
}

fn tandem(master: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tandem"))
        .args(arguments)
        .env_remove("TANDEM_CONFIG")
        .env_remove("TANDEM_STATE_DIR")
        .env("TANDEM_MASTER", master)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn json_is_the_apis_body() {
    let body = r#"[{"name":"n1","unknown":1}]"#;
    let (url, _told) = master([("GET /tandem/v1/nodes", (200, body))].into());
    let output = tandem(&url, &["nodes", "--json"]);
    assert_eq!(text(&output.stdout), format!("{body}\n"));
    assert!(output.status.success());
}

#[test]
fn deploy_sends_the_app_and_says_what_became_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("web.json.j2");
    std::fs::write(&file, r#"{"cpus": {{ cpus }}}"#).unwrap();
    let deployed = r#"{"version":"v2","deploymentId":"d1"}"#;
    let before = r#"{"apps":[{"id":"/shop/web","version":"v1"}]}"#;
    let script = [
        ("GET /v2/apps?embed=apps.counts", (200, before)),
        ("PUT /v2/apps/shop/web?force=false", (200, deployed)),
    ];
    let (url, told) = master(script.into());
    let file = file.display().to_string();
    let output = tandem(
        &url,
        &["deploy", &file, "-e", "cpus=0.5", "--id", "shop/web"],
    );
    assert_eq!(text(&output.stdout), "/shop/web changed, deployment d1\n");
    assert_eq!(text(&output.stderr), "warning: /x: does nothing yet\n");
    let put = r#"put /v2/apps/shop/web?force=false {"cpus":0.5,"id":"/shop/web"}"#;
    let mut asked = Vec::new();
    while asked.last().is_none_or(|asked| asked != put) {
        // Told only after it was answered.
        let next = told.recv_timeout(Duration::from_secs(30));
        asked.push(next.unwrap_or_else(|_| panic!("only {asked:?} was asked")));
    }
}

#[test]
fn a_refusal_and_an_absence_have_exit_codes_of_their_own() {
    let locked = r#"{"message":"App is locked.","deployments":[{"id":"d1"}]}"#;
    let script = [
        ("PATCH /v2/apps/web?force=false", (409, locked)),
        ("GET /v2/apps", (200, r#"{"apps":[{"id":"/web"}]}"#)),
    ];
    let (url, _told) = master(script.into());
    let refused = tandem(&url, &["scale", "web", "3"]);
    assert_eq!(refused.status.code(), Some(4));
    assert!(text(&refused.stderr).starts_with("error: App is locked\nhint: "));
    let absent = tandem(&url, &["scale", "wbe", "3"]);
    assert_eq!(absent.status.code(), Some(5));
    assert!(text(&absent.stderr).ends_with("hint: did you mean `/web`?\n"));
}

#[test]
fn what_is_no_number_is_said_in_the_commands_words() {
    for wrong in ["abc", "-1", "2.5", "99999999999"] {
        let output = tandem("http://127.0.0.1:1", &["scale", "web", wrong]);
        assert_eq!(output.status.code(), Some(2));
        let told = format!("`{wrong}` is not a number of instances");
        assert!(text(&output.stderr).contains(&told), "{output:?}");
    }
}

#[test]
fn no_master_is_said_with_the_way_to_one() {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let output = tandem(&format!("http://{port}"), &["status"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("hint: start a cluster with `tandem up`"));
}

#[test]
fn what_is_roots_alone_never_goes_to_another_cluster_than_was_named() {
    let info = |cluster| Script::from([("GET /v2/info", (200, cluster))]);
    let (url, _told) = master(info(r#"{"frameworkId":"a"}"#));
    let state = tempfile::tempdir().unwrap();
    std::fs::create_dir(state.path().join("master")).unwrap();
    let socket = UnixListener::bind(state.path().join("master/api.sock")).unwrap();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in socket.incoming().map_while(Result::ok) {
            let asked = answer(stream, &info(r#"{"frameworkId":"b"}"#));
            if tell.send(asked).is_err() {
                return;
            }
        }
    });
    let state_dir = state.path().display().to_string();
    let done = tandem(&url, &["token", "create", "--state-dir", &state_dir]);
    assert_eq!(done.status.code(), Some(2));
    let said = text(&done.stderr);
    assert!(said.contains("is another cluster than the one"), "{said}");
    let asked: Vec<String> = told.try_iter().collect();
    assert_eq!(asked, ["get /v2/info"]);
}
