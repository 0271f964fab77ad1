//! `lunette capacity`: how large a disk is.

use super::login::{Login, Needed, leave};
use super::{print, print_json, size};
use crate::failure::Failure;
use clap::Args;
use serde_json::json;

const EXAMPLES: &str = "\
Examples:
  lunette capacity iscsi://192.0.2.7/iqn.2026-11.com.example:disk/0
  lunette capacity --bytes iscsi://192.0.2.7/iqn.2026-11.com.example:disk/0";

/// Arguments of `lunette capacity`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The disk: iscsi://HOST[:PORT]/TARGET/LUN
    #[arg(value_name = "URL")]
    url: String,
    /// Only the number of bytes
    #[arg(long, conflicts_with = "json")]
    bytes: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    login: Login,
}

/// Asks and prints.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let address = arguments.login.address(&arguments.url, Needed::Unit)?;
    let capacity = super::run(async {
        let (unit, capacity) = arguments.login.disk(&address).await?;
        leave(unit.session()).await;
        Ok(capacity)
    })?;
    if arguments.bytes {
        return print(&format!("{}\n", capacity.bytes()));
    }
    let physical = u64::from(capacity.block_length) << capacity.physical_exponent;
    if arguments.json {
        return print_json(&json!({
            "bytes": capacity.bytes(),
            "blocks": capacity.blocks,
            "block_length": capacity.block_length,
            "physical_block_length": physical,
            "lowest_aligned_block": capacity.lowest_aligned,
            "provisioning": capacity.provisioning,
            "reads_zeros": capacity.reads_zeros,
            "protection": capacity.protection,
        }));
    }
    let space = match (capacity.provisioning, capacity.reads_zeros) {
        (false, _) => "every block has space",
        (true, true) => "blocks can be unmapped and then read as zeros",
        (true, false) => "blocks can be unmapped",
    };
    print(&format!(
        "Capacity        {} ({} bytes)\nBlocks          {}\nBlock length    {}\nPhysical block  {physical}\nSpace           {space}\n",
        size(capacity.bytes()),
        capacity.bytes(),
        capacity.blocks,
        capacity.block_length,
    ))
}
