//! `/metrics`: how much of everything there is, and how many requests were answered.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use marathon::render::MetricsView;

use crate::Context;
use crate::answer::{self, Answer};

/// Of this API, since it began.
pub struct Served {
    since: Instant,
    /// By the first digit of the status: 1xx to 5xx.
    answers: [AtomicU64; 5],
}

impl Served {
    pub fn begin() -> Self {
        Self {
            since: Instant::now(),
            answers: Default::default(),
        }
    }

    pub fn count(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(answers) = self.answers.get(class) {
            answers.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn show(&self, view: &mut MetricsView) {
        let mut all = 0;
        for (class, answers) in self.answers.iter().enumerate() {
            let answers = answers.load(Ordering::Relaxed);
            all += answers;
            let name = format!("tandem.http.responses.{}xx.counter", class + 1);
            view.counters.insert(name, answers);
        }
        let name = "tandem.http.requests.counter".to_owned();
        view.counters.insert(name, all);
        let uptime = "marathon.uptime.gauge.seconds".to_owned();
        view.gauges.insert(uptime, self.since.elapsed().as_secs());
    }
}

pub fn routes() -> Router<Context> {
    Router::new()
        .route("/metrics", get(as_json))
        .route("/metrics/prometheus", get(as_text))
}

fn view(context: &Context) -> MetricsView {
    let mut view = MetricsView::of(&context.master.store().state());
    context.served.show(&mut view);
    view
}

async fn as_json(State(context): State<Context>) -> Answer {
    Ok(answer::json(view(&context)))
}

async fn as_text(State(context): State<Context>) -> Answer {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    Ok((kind, view(&context).prometheus()).into_response())
}
