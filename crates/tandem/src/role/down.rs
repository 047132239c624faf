//! `tandem down`: stops the local cluster and leaves nothing in the kernel.

use super::up::{PlaceArgs, fault};
use crate::fault::Result;
use crate::{ask, talk};

#[derive(Debug, clap::Args)]
pub struct DownArgs {
    /// Remove the state too: apps, volumes with their data, images
    #[arg(long)]
    purge: bool,
    /// Do not ask before removing
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

pub fn run(args: DownArgs) -> Result<()> {
    let options = args.place.options()?;
    let state = options.state_dir.display();
    if args.purge && options.state_dir.exists() {
        ask::consent(
            args.yes,
            &format!("remove all apps, volumes and images in {state}"),
        )?;
    }
    let down = local::down(&options, args.purge)
        .map_err(|error| fault(&error, "stop the local cluster"))?;
    match (down.was_running, down.purged) {
        (true, true) => talk!("stopped; {state} is removed"),
        (true, false) => talk!("stopped; the state stays in {state}, `tandem up` goes on from it"),
        (false, true) => talk!("nothing was running; {state} is removed"),
        (false, false) => talk!("nothing was running"),
    }
    Ok(())
}
