//! Paths of the API, with what people type made safe in them.

/// `/shop/web` of `shop/web`, `/shop/web` or `/shop/web/`.
pub fn app_id(typed: &str) -> String {
    format!("/{}", typed.trim_matches('/'))
}

/// `/v2/apps/shop/web`.
pub fn app(id: &str) -> String {
    let parts: Vec<String> = id.trim_matches('/').split('/').map(encoded).collect();
    format!("/v2/apps/{}", parts.join("/"))
}

/// Percent-encoded for one segment of a path or one value of a query.
pub fn encoded(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                safe.push(char::from(byte));
            }
            byte => safe.push_str(&format!("%{byte:02X}")),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_become_paths() {
        assert_eq!(app(&app_id("shop/web/")), "/v2/apps/shop/web");
        assert_eq!(app("/a b/../ü"), "/v2/apps/a%20b/../%C3%BC");
    }
}
