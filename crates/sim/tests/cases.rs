//! Every script under `cases/` gives the transcript that is written in it. `UPDATE_CASES=1`
//! writes the transcripts anew; read the difference before it is committed.

#![expect(
    clippy::disallowed_methods,
    reason = "the crate touches nothing; its test reads and writes scripts"
)]

use std::path::Path;

#[test]
fn scripts_give_their_transcripts() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut paths = Vec::new();
    for folder in [cases.clone(), cases.join("relocate")] {
        let entries = folder.read_dir().expect("the scripts are beside this test");
        let entries = entries.map(|entry| entry.expect("the directory can be read").path());
        paths.extend(entries.filter(|path| path.is_file()));
    }
    paths.sort();
    assert!(!paths.is_empty());
    let update = std::env::var("UPDATE_CASES").is_ok();
    let mut wrong = Vec::new();
    for path in paths {
        let script = std::fs::read_to_string(&path).expect("a script can be read");
        match sim::script::run(&script) {
            Ok(transcript) if transcript == script => {}
            Ok(transcript) if update => {
                std::fs::write(&path, transcript).expect("a script can be written");
            }
            Ok(transcript) => wrong.push(format!("{}:\n{transcript}", path.display())),
            Err((fault, transcript)) => {
                wrong.push(format!("{}: {fault}\n{transcript}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
