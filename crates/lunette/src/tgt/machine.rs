//! What tgt-admin asks of the machine: whether a store is there, who uses it, and what a device calls itself.

use compat::tgt::admin::Machine;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// This machine.
pub struct Here;

impl Machine for Here {
    fn exists(&self, path: &str) -> bool {
        std::fs::metadata(path).is_ok_and(|facts| !facts.is_dir())
    }

    fn in_use(&self, path: &str) -> Option<String> {
        // Only a device can be asked; a file is locked by whoever serves it.
        std::fs::metadata(path).ok().filter(|facts| facts.file_type().is_block_device())?;
        let exclusive = i32::try_from(rustix::fs::OFlags::EXCL.bits()).unwrap_or_default();
        let opened = std::fs::OpenOptions::new().read(true).custom_flags(exclusive).open(path);
        let busy = opened.is_err_and(|error| error.kind() == std::io::ErrorKind::ResourceBusy);
        busy.then(|| "the system (mounted, used by swap?)".to_owned())
    }

    fn identity(&self, path: &str) -> Vec<(&'static str, String)> {
        let Some(device) = in_sysfs(path) else { return Vec::new() };
        let text = |name: &str| {
            let bytes = std::fs::read(device.join(name)).ok()?;
            let text: String =
                bytes.iter().map(|byte| char::from(*byte)).filter(|letter| (' '..='~').contains(letter)).collect();
            Some(text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        // VPD page 80h has four bytes before the serial number.
        let page = std::fs::read(device.join("device/vpd_pg80")).ok();
        let page = page.and_then(|page| Some(String::from_utf8_lossy(page.get(4..)?).trim().to_owned()));
        let serial = page.or_else(|| text("device/serial")).filter(|serial| !serial.is_empty());
        let number = |name: &str| text(name).and_then(|text| text.parse::<u32>().ok());
        let (logical, physical) = (number("queue/logical_block_size"), number("queue/physical_block_size"));
        let exponent = match (logical, physical) {
            (Some(logical), Some(physical)) if logical > 0 && physical > logical => Some((physical / logical).ilog2()),
            _ => None,
        };
        let known = [
            ("blocksize", logical.filter(|length| *length != 512).map(|length| length.to_string())),
            ("vendor_id", text("device/vendor")),
            ("product_id", text("device/model")),
            ("product_rev", text("device/rev").or_else(|| text("device/firmware_rev"))),
            ("scsi_sn", serial),
            ("lbppbe", exponent.map(|exponent| exponent.to_string())),
        ];
        known.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// Where the kernel tells of a device; of a partition, its disk.
fn in_sysfs(path: &str) -> Option<PathBuf> {
    let real = std::fs::canonicalize(path).ok()?;
    let own = Path::new("/sys/class/block").join(real.file_name()?);
    let own = std::fs::canonicalize(own).ok()?;
    match own.join("partition").exists() {
        true => own.parent().map(Path::to_owned),
        false => Some(own),
    }
}
