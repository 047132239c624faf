//! The examples' definitions, read as the API reads them.

use std::fs;
use std::path::Path;

use marathon::{merge, parse_app, warnings};

#[test]
fn the_shop_is_accepted_without_fault_or_warning() {
    let shop = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/shop");
    for tier in ["db", "app", "web"] {
        let body = fs::read(shop.join(format!("{tier}.json"))).expect("a definition");
        let update = parse_app(&body).expect("JSON of an app");
        let id = update.id().expect("a legal id").expect("an id");
        assert_eq!(id.to_string(), format!("/shop/{tier}"));
        let spec = merge(&id, None, &update, false).expect("a definition without fault");
        assert_eq!(warnings(&spec), [], "{tier}");
    }
}
