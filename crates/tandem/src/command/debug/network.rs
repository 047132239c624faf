//! `tandem debug network`: a node's devices, forwarding entries, neighbours and published ports,
//! as the directory wants them and as the kernel has them.

use serde::Deserialize;

use crate::client::path::encoded;
use crate::command::Reading;
use crate::fault::Result;
use crate::table;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Network {
    compared: Vec<Compared>,
    tables: String,
}

/// Empty: nothing.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Compared {
    kind: String,
    name: String,
    wanted: String,
    found: String,
}

pub async fn run(node: &str, reading: Reading) -> Result<()> {
    let path = format!("/tandem/v1/nodes/{}/network", encoded(node));
    reading.show(&path, |network| render(&network)).await
}

fn render(network: &Network) -> String {
    let row = |compared: &Compared| {
        let same = compared.wanted == compared.found;
        [
            if same { " " } else { "!" }.to_owned(),
            compared.kind.clone(),
            compared.name.clone(),
            compared.wanted.clone(),
            match same {
                true => "the same".to_owned(),
                false => compared.found.clone(),
            },
        ]
    };
    let rows: Vec<_> = network.compared.iter().map(row).collect();
    let different = rows.iter().filter(|row| row[0] == "!").count();
    let table = table::render([" ", "KIND", "NAME", "WANTED", "FOUND"], &rows);
    let sum = match different {
        0 => "everything is as it should be".to_owned(),
        1 => "1 difference".to_owned(),
        more => format!("{more} differences"),
    };
    format!("{table}\n{sum}\n\n{}", network.tables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_marked_and_counted() {
        let network: Network = serde_json::from_str(
            r#"{"node":"n1","compared":[
            {"kind":"device","name":"tnd0","wanted":"up, mtu 1450","found":"up, mtu 1450"},
            {"kind":"address","name":"10.32.0.5","wanted":"at 10.0.15.12","found":""}],
            "tables":"table inet tandem {\n}\n"}"#,
        )
        .unwrap();
        insta::assert_snapshot!(render(&network), @r"
           KIND     NAME       WANTED         FOUND
           device   tnd0       up, mtu 1450   the same
        !  address  10.32.0.5  at 10.0.15.12  -

        1 difference

        table inet tandem {
        }
        ");
    }
}
