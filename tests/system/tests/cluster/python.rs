//! (I) `marathon`, the client library that Python programs of those days use.

use crate::cluster::{Cluster, sh};
use crate::room::skip;
use std::path::PathBuf;
use std::process::Command;

const PACKAGE: &str = "marathon==0.13.0";
const SCRIPT: &str = include_str!("client.py");

/// Kept beside the programs, as are other things that had to be fetched.
fn directory() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.ancestors().nth(2).unwrap().join("marathon-python")
}

fn python() -> String {
    directory().join("bin/python").display().to_string()
}

fn is_there() -> bool {
    let import = Command::new(python())
        .args(["-c", "import marathon"])
        .output();
    import.is_ok_and(|output| output.status.success())
}

/// Fetches the library; a machine has no way out.
pub fn prepare() {
    if is_there() {
        return;
    }
    let directory = directory().display().to_string();
    let venv = Command::new("python3")
        .args(["-m", "venv", "--clear", &directory])
        .output();
    let pip = || {
        Command::new(python())
            .args(["-m", "pip", "install", "--quiet", PACKAGE])
            .output()
    };
    for output in [venv, pip()] {
        match output {
            Ok(output) if !output.status.success() => {
                println!("{}", String::from_utf8_lossy(&output.stderr))
            }
            Err(error) => println!("{error}"),
            Ok(_) => {}
        }
    }
}

pub fn marathon_s_python_client_works(cluster: &Cluster) {
    if !is_there() {
        skip(&format!("pip could not fetch {PACKAGE}"));
    }
    cluster.up(&["--nodes", "2"]);
    let script = cluster.write("client.py", SCRIPT);
    println!(
        "{}",
        sh(&format!(
            "{} {script} http://10.0.15.10:8080 2>&1",
            python()
        ))
    );
    cluster.down();
}
