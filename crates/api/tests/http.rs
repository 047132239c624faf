//! Requests over real HTTP against a real master without agents: what is answered, and what is
//! remembered.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::StreamExt;
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use master::Master;
use serde_json::{Value, json};

type Body = axum::body::Body;

struct Server {
    address: SocketAddr,
    dir: tempfile::TempDir,
    _master: Master,
}

async fn serve(dir: tempfile::TempDir) -> Server {
    let config = master::Config {
        dir: dir.path().join("master"),
        listen: "127.0.0.1:0".parse().unwrap(),
        settings: Default::default(),
    };
    let (master, running) = Master::start(config).await.unwrap();
    tokio::spawn(running.ended());
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let config = api::Config {
        listen: vec![address],
        socket: dir.path().join("api.sock"),
        advertised: (address.ip().to_string(), address.port()),
    };
    tokio::spawn(api::serve(master.clone(), config));
    let end = Instant::now() + Duration::from_secs(60);
    while let Err(error) = tokio::net::TcpStream::connect(address).await {
        assert!(Instant::now() < end, "{address}: {error}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Server {
        address,
        dir,
        _master: master,
    }
}

struct Reply {
    status: u16,
    headers: axum::http::HeaderMap,
    text: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }
}

impl Server {
    async fn ask(&self, method: &str, path: &str, body: impl ToString) -> Reply {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address))
            .header(
                "accept",
                if path.contains("text=1") {
                    "text/plain"
                } else {
                    "application/json"
                },
            )
            .body(Body::from(body.to_string()))
            .unwrap();
        let (parts, body) = client.request(request).await.unwrap().into_parts();
        let bytes = axum::body::to_bytes(Body::new(body), usize::MAX)
            .await
            .unwrap();
        Reply {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }
}

fn sleep(instances: u32) -> Value {
    json!({ "cmd": "sleep 1000", "cpus": 0.1, "mem": 32, "instances": instances })
}

#[tokio::test]
async fn an_app_put_twice_changes_nothing_the_second_time() {
    let server = serve(tempfile::tempdir().unwrap()).await;
    let first = server.ask("PUT", "/v2/apps/shop/web", sleep(2)).await;
    assert_eq!(first.status, 201, "{}", first.text);
    assert_eq!(
        first.headers["marathon-deployment-id"].to_str().unwrap(),
        first.json()["deploymentId"]
    );
    let before = server.ask("GET", "/v2/apps/shop/web", "").await.json();
    let second = server
        .ask("PUT", "/v2/apps//shop/web?force=true", sleep(2))
        .await;
    assert_eq!(second.status, 200, "{}", second.text);
    assert_eq!(second.json()["version"], before["app"]["version"]);
    let after = server.ask("GET", "/v2/apps/shop/web", "").await.json();
    assert_eq!(after["app"]["version"], before["app"]["version"]);
    assert_eq!(after["app"]["versionInfo"], before["app"]["versionInfo"]);

    let versions = server
        .ask("GET", "/v2/apps/shop/web/versions", "")
        .await
        .json();
    assert_eq!(versions["versions"], json!([before["app"]["version"]]));
    let path = format!(
        "/v2/apps/shop/web/versions/{}",
        before["app"]["version"].as_str().unwrap()
    );
    assert_eq!(server.ask("GET", &path, "").await.json()["instances"], 2);
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_the_master_is_gone() {
    let server = serve(tempfile::tempdir().unwrap()).await;
    for n in 0..20 {
        assert_eq!(
            server
                .ask("PUT", &format!("/v2/apps/a{n}"), sleep(1))
                .await
                .status,
            201
        );
    }
    // The state directory as a crash would leave it.
    let copy = tempfile::tempdir().unwrap();
    copy_dir(server.dir.path(), copy.path());
    let again = serve(copy).await;
    let apps = again.ask("GET", "/v2/apps", "").await.json();
    assert_eq!(apps["apps"].as_array().unwrap().len(), 20);
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => copy_dir(&entry.path(), &to.join(entry.file_name())),
            kind if kind.is_file() => {
                std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn refusals_have_marathons_status_and_words() {
    let server = serve(tempfile::tempdir().unwrap()).await;
    let of = |method: &'static str, path: &'static str, body: &'static str| {
        let server = &server;
        async move {
            let reply = server.ask(method, path, body).await;
            (reply.status, reply.json())
        }
    };
    assert_eq!(
        server
            .ask("POST", "/v2/apps", json!({"id": "/a", "cmd": "sleep 9"}))
            .await
            .status,
        201
    );

    let (status, body) = of("POST", "/v2/apps", r#"{"id":"/a","cmd":"sleep 9"}"#).await;
    assert_eq!(
        (status, body),
        (
            409,
            json!({"message": "An app with id [/a] already exists."})
        )
    );
    let (status, body) = of("POST", "/v2/apps", "{").await;
    assert_eq!((status, &body["message"]), (400, &json!("Invalid JSON")));
    let (status, body) = of("POST", "/v2/apps", "").await;
    assert_eq!(
        (status, &body["message"]),
        (400, &json!("Please specify data in JSON format"))
    );
    let (status, body) = of("POST", "/v2/apps", r#"{"cmd":"sleep 9"}"#).await;
    assert_eq!((status, &body["details"][0]["path"]), (422, &json!("/id")));
    let (status, body) = of(
        "PUT",
        "/v2/apps/b",
        r#"{"cmd":"sleep 9","instances":"two"}"#,
    )
    .await;
    assert_eq!(
        (status, &body["details"][0]["path"]),
        (422, &json!("/instances"))
    );
    let (status, body) = of(
        "PUT",
        "/v2/apps/b",
        r#"{"cmd":"x y","constraints":[["disk","LIKE","(?=a)"]]}"#,
    )
    .await;
    assert_eq!(
        (status, &body["message"]),
        (422, &json!("Object is not valid"))
    );
    let (status, body) = of("GET", "/v2/apps/nope", "").await;
    assert_eq!(
        (status, body),
        (404, json!({"message": "App '/nope' does not exist"}))
    );
    assert_eq!(
        of("PATCH", "/v2/apps/nope", r#"{"instances":2}"#).await.0,
        404
    );
    assert_eq!(of("DELETE", "/v2/apps/nope", "").await.0, 404);
    assert_eq!(of("DELETE", "/v2/deployments/x", "").await.0, 404);
    assert_eq!(of("GET", "/v2/nowhere", "").await.0, 404);
    // What would make it says why it cannot.
    let (status, body) = of("PUT", "/v2/apps/My_App", r#"{"cmd":"x y"}"#).await;
    assert_eq!((status, &body["details"][0]["path"]), (422, &json!("/id")));
    assert_eq!(of("GET", "/v2/apps/My_App", "").await.0, 404);
    assert_eq!(
        of("POST", "/v2/tasks/delete", r#"{"ids":["odd"]}"#).await.0,
        400
    );
    let older = r#"{"ids":["web.3ab3fb04-1f1c-11e6-8b6f-0242ac110002"]}"#;
    let (status, body) = of("POST", "/v2/tasks/delete", older).await;
    assert_eq!((status, body), (200, json!({"tasks": []})));
    // What the framework refuses has Marathon's form too.
    let large = format!(r#"{{"id":"/x","cmd":"{}"}}"#, "x".repeat(9 << 20));
    let refused = server.ask("POST", "/v2/apps", large).await;
    let told = json!({"message": "the body is larger than 8 MiB"});
    assert_eq!((refused.status, refused.json()), (413, told));
    let (status, body) = of("GET", "/v2/apps/%ff", "").await;
    assert_eq!((status, body["message"].is_string()), (400, true));
    let refused = server.ask("GET", "/v2/apps/nope/restart", "").await;
    assert_eq!(refused.status, 405);
    assert_eq!(refused.headers["allow"], "POST");
    assert_eq!(of("POST", "/tandem/v1/tokens", "").await.0, 403);
    assert_eq!(of("DELETE", "/tandem/v1/volumes/x", "").await.0, 403);
}

#[tokio::test]
async fn of_an_array_each_fault_names_its_item() {
    let server = serve(tempfile::tempdir().unwrap()).await;
    let told = |method: &'static str, body: Value| {
        let server = &server;
        async move {
            let reply = server.ask(method, "/v2/apps", body).await;
            assert_eq!(reply.status, 422, "{}", reply.text);
            let details = reply.json()["details"].take();
            let details = details.as_array().unwrap().iter();
            let said = details.map(|at| {
                let errors = at["errors"][0].as_str().unwrap();
                (at["path"].as_str().unwrap().to_owned(), errors.to_owned())
            });
            said.collect::<Vec<_>>()
        }
    };
    fn paths(told: &[(String, String)]) -> Vec<&str> {
        told.iter().map(|(path, _)| path.as_str()).collect()
    }
    let good = json!({"id": "/good", "cmd": "sleep 9"});
    let other = json!({"id": "/other", "cmd": "sleep 9"});
    let made = server.ask("PUT", "/v2/apps", json!([good, other])).await;
    assert_eq!(made.status, 200, "{}", made.text);
    let bad = |cpus: Value| json!({"id": "/other", "cmd": "sleep 9", "cpus": cpus});
    for method in ["PUT", "PATCH"] {
        let wrong = told(method, json!([good, bad(json!(-1))])).await;
        let typed = told(method, json!([good, bad(json!("1"))])).await;
        assert_eq!(
            (paths(&wrong), paths(&typed)),
            (vec!["(1)/cpus"], vec!["(1)/cpus"])
        );
        let twice = told(method, json!([good, {"id": "good"}, {"cmd": "x"}])).await;
        assert_eq!(paths(&twice), ["(1)/id", "(2)/id"]);
        assert_eq!(twice[0].1, "/good is given twice");
    }
    let two = json!([{"id": "/a", "instances": -1}, good, {"id": "/b"}]);
    assert_eq!(
        paths(&told("PUT", two).await),
        ["(0)/instances", "(0)", "(2)"]
    );
}

#[tokio::test]
async fn what_means_nothing_is_accepted_and_told_of() {
    let server = serve(tempfile::tempdir().unwrap()).await;
    let warnings = |reply: &Reply| -> Vec<String> {
        assert!((200..300).contains(&reply.status), "{}", reply.text);
        let all = reply.headers.get_all("tandem-warning").into_iter();
        all.map(|value| value.to_str().unwrap().to_owned())
            .collect()
    };
    let told = "/instanses: is not known and has no effect; did you mean 'instances'?";
    let mut body = sleep(1);
    body["instanses"] = json!(3);
    body["id"] = json!("/x");
    let posted = server.ask("POST", "/v2/apps", &body).await;
    assert_eq!(warnings(&posted), [told]);
    // Unchanged, it is told again.
    let put = server.ask("PUT", "/v2/apps/x?force=true", &body).await;
    assert_eq!(warnings(&put), [told]);
    let mut odd = sleep(1);
    odd["id"] = json!("/y");
    odd["tty"] = json!(true);
    let many = json!([body, odd]);
    let put = server.ask("PUT", "/v2/apps?force=true", many).await;
    let told = warnings(&put);
    assert!(told.len() == 2 && told[0].starts_with("(0)/instanses: "));
    assert!(told[1].starts_with("(1)/tty: "), "{told:?}");

    let read = server
        .ask("GET", "/v2/apps/x?embed=app.taskStats", "")
        .await;
    let back = read.json()["app"].take();
    let put = server.ask("PUT", "/v2/apps/x?force=true", back).await;
    assert_eq!(warnings(&put), [""; 0]);
    let crowd: Vec<Value> = (0..100)
        .map(|n| json!({"id": format!("/c{n}"), "cmd": "sleep 9", "tty": true}))
        .collect();
    let put = server.ask("PUT", "/v2/apps", json!(crowd)).await;
    let told = warnings(&put);
    assert_eq!((told.len(), told[32].as_str()), (33, "and 68 more"));
}

#[tokio::test]
async fn an_app_without_a_node_waits_and_says_why() {
    let server = serve(tempfile::tempdir().unwrap()).await;
    server.ask("PUT", "/v2/apps/lonely", sleep(3)).await;
    let queue = server.ask("GET", "/v2/queue", "").await.json();
    assert_eq!(
        (&queue["queue"][0]["app"]["id"], &queue["queue"][0]["count"]),
        (&json!("/lonely"), &json!(3))
    );
    let status = server.ask("GET", "/tandem/v1/status", "").await.json();
    assert_eq!(status["waiting"][0]["app"], "/lonely");
    assert!(
        !status["waiting"][0]["reasons"]
            .as_array()
            .unwrap()
            .is_empty(),
        "{status}"
    );

    let locked = server.ask("PUT", "/v2/apps/lonely", sleep(4)).await;
    assert_eq!(locked.status, 409, "{}", locked.text);
    let id = locked.json()["deployments"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let listed = server.ask("GET", "/v2/deployments", "").await.json();
    assert_eq!(listed[0]["id"], json!(id));
    assert_eq!(
        server
            .ask("PUT", "/v2/apps/lonely?force=true", sleep(4))
            .await
            .status,
        200
    );
    assert_eq!(
        server.ask("DELETE", "/v2/apps/lonely", "").await.status,
        200
    );
    assert_eq!(server.ask("GET", "/v2/apps/lonely", "").await.status, 404);
}

#[tokio::test]
async fn the_small_endpoints_answer() {
    let server = serve(tempfile::tempdir().unwrap()).await;
    assert_eq!(server.ask("GET", "/ping?text=1", "").await.text, "pong");
    assert_eq!(
        server
            .ask("GET", "/v2/apps/?embed=apps.tasks", "")
            .await
            .json(),
        json!({"apps": []})
    );
    assert_eq!(
        server.ask("GET", "/v2/tasks", "").await.json(),
        json!({"tasks": []})
    );
    let leader = server.ask("GET", "/v2/leader", "").await.json();
    assert_eq!(leader["leader"], json!(server.address.to_string()));
    let info = server.ask("GET", "/v2/info", "").await;
    assert_eq!(info.json()["leader"], leader["leader"]);
    assert_eq!(
        info.headers["x-marathon-leader"],
        format!("http://{}", server.address)
    );
    assert!(
        server
            .ask("GET", "/", "")
            .await
            .text
            .contains("tandem deploy")
    );
    let volume = server
        .ask("PUT", "/tandem/v1/volumes/pg", json!({"size": 64}))
        .await;
    assert_eq!((volume.status, &volume.json()["size"]), (201, &json!(64.0)));
    assert_eq!(
        server
            .ask("PUT", "/tandem/v1/volumes/pg", json!({"size": 64}))
            .await
            .status,
        200
    );
    assert_eq!(
        server
            .ask("PUT", "/tandem/v1/volumes/pg", json!({"size": 65}))
            .await
            .status,
        409
    );
    assert_eq!(server.ask("GET", "/v2/tasks?text=1", "").await.text, "");
}

#[tokio::test]
async fn what_gives_up_or_destroys_data_is_answered_on_the_socket_only() {
    let server = serve(tempfile::tempdir().unwrap()).await;
    for (method, path) in [
        ("POST", "/tandem/v1/volumes/pg/recover"),
        ("DELETE", "/tandem/v1/volumes/pg/copies/n2/pg.g2"),
        ("DELETE", "/tandem/v1/volumes/pg"),
    ] {
        let reply = server.ask(method, path, "").await;
        assert_eq!(reply.status, 403, "{method} {path}");
        assert!(reply.text.contains("master/api.sock"), "{}", reply.text);
    }
}

impl Server {
    /// A stream of events; the name and the object of each.
    async fn events(&self, path: &str) -> Events {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let request = Request::get(format!("http://{}{path}", self.address))
            .header("accept", "text/event-stream")
            .body(Body::empty())
            .unwrap();
        let (parts, body) = client.request(request).await.unwrap().into_parts();
        assert_eq!(parts.status.as_u16(), 200);
        assert_eq!(parts.headers["content-type"], "text/event-stream");
        Events {
            frames: Body::new(body).into_data_stream(),
            text: String::new(),
        }
    }
}

struct Events {
    frames: axum::body::BodyDataStream,
    text: String,
}

impl Events {
    async fn next(&mut self) -> (String, Value) {
        loop {
            if let Some((frame, rest)) = self.text.split_once("\n\n") {
                let fields: Vec<&str> = frame.lines().collect();
                let (name, data) = match fields[..] {
                    [name, data] => (name.strip_prefix("event: "), data.strip_prefix("data: ")),
                    _ => panic!("no event: {frame}"),
                };
                let event = (
                    name.unwrap().to_owned(),
                    serde_json::from_str(data.unwrap()).unwrap(),
                );
                self.text = rest.to_owned();
                return event;
            }
            let bytes = self.frames.next().await.unwrap().unwrap();
            self.text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }
}

#[tokio::test]
async fn what_is_accepted_is_told_to_those_who_listen() {
    let server = serve(tempfile::tempdir().unwrap()).await;
    assert_eq!(server.ask("GET", "/v2/events", "").await.status, 405);
    let mut all = server.events("/v2/events").await;
    let two = "/v2/events?event_type=deployment_info&event_type=app_terminated_event";
    let mut some = server.events(two).await;
    let (name, hello) = all.next().await;
    assert_eq!(name, "event_stream_attached");
    assert_eq!(hello["eventType"], json!(name));
    assert_eq!(hello["remoteAddress"], "127.0.0.1");

    let put = server.ask("PUT", "/v2/apps/shop/web", sleep(1)).await;
    let deployment = put.json()["deploymentId"].clone();
    let (name, posted) = all.next().await;
    assert_eq!(
        (name.as_str(), &posted["uri"]),
        ("api_post_event", &json!("/v2/apps/shop/web"))
    );
    assert_eq!(posted["appDefinition"]["version"], put.json()["version"]);
    assert_eq!(all.next().await.0, "group_change_success");
    for listener in [&mut all, &mut some] {
        let (name, begun) = listener.next().await;
        assert_eq!(
            (name.as_str(), &begun["plan"]["id"]),
            ("deployment_info", &deployment)
        );
    }
    server.ask("DELETE", "/v2/apps/shop/web", "").await;
    loop {
        let (name, body) = some.next().await;
        if name != "deployment_info" {
            assert_eq!(
                (name.as_str(), &body["appId"]),
                ("app_terminated_event", &json!("/shop/web"))
            );
            break;
        }
    }
    loop {
        let (name, body) = all.next().await;
        if name == "deployment_failed" {
            assert_eq!(body["id"], deployment);
            break;
        }
    }
}

#[tokio::test]
async fn metrics_are_numbers_in_both_forms() {
    let server = serve(tempfile::tempdir().unwrap()).await;
    server.ask("PUT", "/v2/apps/a", sleep(2)).await;
    assert_eq!(server.ask("GET", "/v2/nowhere", "").await.status, 404);
    let metrics = server.ask("GET", "/metrics", "").await.json();
    assert_eq!(metrics["version"], "4.0.0");
    let gauge = |name: &str| metrics["gauges"][name]["value"].clone();
    assert_eq!(gauge("marathon.apps.active.gauge"), json!(1));
    assert_eq!(gauge("marathon.deployments.active.gauge"), json!(1));
    assert_eq!(gauge("tandem.instances.rung.running.gauge"), json!(0));
    assert!(gauge("tandem.store.revision.gauge").as_u64().unwrap() > 0);
    let counter = |name: &str| metrics["counters"][name]["count"].clone();
    assert_eq!(counter("tandem.http.responses.4xx.counter"), json!(1));
    for empty in ["histograms", "meters", "timers"] {
        assert_eq!(metrics[empty], json!({}));
    }
    let text = server.ask("GET", "/metrics/prometheus", "").await.text;
    assert!(
        text.contains("# TYPE marathon_apps_active_gauge gauge\nmarathon_apps_active_gauge 1\n"),
        "{text}"
    );
    assert!(text.contains("tandem_http_responses_4xx_counter 1\n"));
}
