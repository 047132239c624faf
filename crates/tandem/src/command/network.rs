//! `tandem network`: the overlay, and who has which address on it.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Reading;
use crate::fault::Result;
use crate::table;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Network {
    subnet: String,
    nodes: Vec<Node>,
    instances: Vec<Named>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Node {
    name: String,
    underlay: String,
    overlay: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Named {
    id: String,
    entry: Entry,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    app: String,
    interfaces: Vec<Interface>,
    hostname: Option<String>,
    running: bool,
    healthy: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Interface {
    address: String,
}

pub async fn run(reading: Reading) -> Result<()> {
    reading
        .show("/tandem/v1/network", |network| render(&network))
        .await
}

fn render(network: &Network) -> String {
    let mut text = table::facts(&[("SUBNET", network.subnet.clone())]);
    let node = |node: &Node| {
        [
            node.name.clone(),
            node.underlay.clone(),
            node.overlay.clone(),
        ]
    };
    let nodes: Vec<_> = network.nodes.iter().map(node).collect();
    text.push('\n');
    text.push_str(&table::render(["NODE", "ADDRESS", "OVERLAY"], &nodes));
    let mut by_app: BTreeMap<(&str, &str), &Entry> = BTreeMap::new();
    for Named { id, entry } in &network.instances {
        by_app.insert((&entry.app, id), entry);
    }
    let instance = |((app, id), entry): (&(&str, &str), &&Entry)| {
        let addresses = entry
            .interfaces
            .iter()
            .map(|interface| interface.address.as_str());
        let named = match (entry.running, entry.healthy) {
            (true, true) => "yes",
            (true, false) => "if none is healthy",
            (false, _) => "no",
        };
        [
            (*app).to_owned(),
            (*id).to_owned(),
            addresses.collect::<Vec<_>>().join(" "),
            entry.hostname.clone().unwrap_or_default(),
            named.to_owned(),
        ]
    };
    let instances: Vec<_> = by_app.iter().map(instance).collect();
    if !instances.is_empty() {
        text.push('\n');
        let headers = ["APP", "INSTANCE", "ADDRESS", "HOSTNAME", "NAMED"];
        text.push_str(&table::render(headers, &instances));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_sorted_by_app() {
        let network: Network = serde_json::from_str(
            r#"{"subnet":"10.32.0.0/12","revision":7,
            "nodes":[{"name":"n1","hostname":"h","underlay":"10.0.15.11","overlay":"10.32.0.2"}],
            "instances":[
            {"id":"2a.0","entry":{"app":"/web","node":0,"interfaces":[],"hostname":null,"running":false,"healthy":false,"ports":[]}},
            {"id":"1a.0","entry":{"app":"/db","node":0,"interfaces":[{"network":"Overlay","address":"10.32.0.5","prefix":12}],
            "hostname":"mongo.weave.local","running":true,"healthy":true,"ports":[]}}]}"#,
        )
        .unwrap();
        insta::assert_snapshot!(render(&network), @r"
        SUBNET  10.32.0.0/12

        NODE  ADDRESS     OVERLAY
        n1    10.0.15.11  10.32.0.2

        APP   INSTANCE  ADDRESS    HOSTNAME           NAMED
        /db   1a.0      10.32.0.5  mongo.weave.local  yes
        /web  2a.0      -          -                  no
        ");
    }
}
