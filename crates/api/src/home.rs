//! What a browser sees on `/`: the apps, and the next command. Plain HTML without a script.

use axum::Router;
use axum::extract::State;
use axum::response::Html;
use axum::routing::get;
use model::App;

use crate::Context;

pub fn routes() -> Router<Context> {
    Router::new().route("/", get(home))
}

async fn home(State(context): State<Context>) -> Html<String> {
    let state = context.master.store().state();
    let rows: String = state.apps().map(row).collect();
    let next = match state.app_count() {
        0 => "No app is deployed yet. Try <code>tandem deploy FILE</code>.",
        _ => {
            "See more with <code>tandem ps</code>, <code>tandem logs APP</code> and <code>tandem queue</code>."
        }
    };
    let nodes = state.node_count();
    Html(format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>Tandem</title>\
         <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:50em;margin:3em auto;padding:0 1em}}\
         table{{border-collapse:collapse;width:100%}}td,th{{text-align:left;padding:.3em 1em .3em 0;border-bottom:1px solid #ddd}}</style>\
         <h1>Tandem</h1><p>{nodes} nodes, {} apps, {} instances. {next}</p>\
         <table><tr><th>App<th>Running<th>Healthy<th>Image or command</tr>{rows}</table>\
         <p><a href=/v2/apps>/v2/apps</a> · <a href=/tandem/v1/nodes>/tandem/v1/nodes</a></p></html>",
        state.app_count(),
        state.instance_count(),
    ))
}

fn row(app: &App) -> String {
    let what = match (app.spec.image(), &app.spec.command) {
        (Some(image), _) => escape(&image.image),
        (None, model::spec::Command::Shell(line)) => escape(line),
        (None, model::spec::Command::Args(words)) => escape(&words.join(" ")),
        (None, model::spec::Command::Image) => String::new(),
    };
    format!(
        "<tr><td>{}<td>{} of {}<td>{}<td><code>{what}</code></tr>",
        escape(app.id.as_str()),
        app.counters.running,
        app.spec.instances,
        app.counters.healthy,
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
