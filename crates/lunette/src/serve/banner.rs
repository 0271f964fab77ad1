//! What `lunette serve` says when it is ready: the target, its disks, and how to connect.

use super::units::Unit;
use crate::logging::Format;
use lun::DeviceType;
use scsi::port_groups::{AccessState, Group};
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use stores::Size;
use target::Portal;

/// What is to be told.
pub struct Banner<'a> {
    /// The target's name.
    pub target: &'a str,
    /// Where it listens.
    pub portals: &'a [Portal],
    /// The portal groups with their access states.
    pub groups: &'a [Group],
    /// Its disks.
    pub units: &'a [Unit],
    /// The user of CHAP.
    pub chap: Option<&'a str>,
    /// The target's own user of mutual CHAP.
    pub mutual: Option<&'a str>,
}

impl Banner<'_> {
    /// The whole text, for people or as one JSON object.
    pub fn text(&self, format: Format) -> String {
        match format {
            Format::Text => self.people().unwrap_or_default(),
            Format::Json => self.json(),
        }
    }

    fn people(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        writeln!(out, "Target   {}", self.target)?;
        for portal in self.portals {
            let Portal { address, group, .. } = portal;
            match self.state(*group) {
                // What every target is that has one group, nobody needs to be told.
                "active-optimized" if self.groups.len() == 1 => writeln!(out, "Portal   {address},{group}")?,
                state => writeln!(out, "Portal   {address},{group} ({state})")?,
            }
        }
        writeln!(out, "\nLUN    SIZE      BLOCK  DISK")?;
        for Unit { number, place, created, unit } in self.units {
            let limits = unit.backend().limits();
            let mut notes = vec![unit.backend().description().kind];
            let optical = unit.options().device_type == DeviceType::Optical;
            if optical {
                notes.push("CD-ROM");
            }
            if *created && unit.backend().description().kind == "file" {
                notes.push("created");
            }
            if limits.read_only && !optical {
                notes.push("read-only");
            }
            let size = Size(limits.capacity()).to_string();
            writeln!(out, "{number:<5}  {size:<8}  {:<5}  {place} ({})", limits.block_length, notes.join(", "))?;
        }
        let Some(portal) = self.portals.first().map(|portal| reachable(portal.address)) else { return Ok(out) };
        writeln!(out)?;
        self.linux(&mut out, portal)?;
        self.windows(&mut out, portal)?;
        self.qemu(&mut out, portal)?;
        Ok(out)
    }

    fn linux(&self, out: &mut String, portal: SocketAddr) -> std::fmt::Result {
        let target = self.target;
        let node = format!("iscsiadm --mode node --targetname {target} --portal {portal}");
        let Some(user) = self.chap else {
            writeln!(out, "Linux    iscsiadm --mode discovery --type sendtargets --portal {portal}")?;
            return writeln!(out, "         {node} --login");
        };
        writeln!(out, "Linux    {node} --op new")?;
        let mut set = |name: &str, value: &str| {
            writeln!(out, "         {node} --op update --name node.session.auth.{name} --value {value}")
        };
        set("authmethod", "CHAP")?;
        set("username", user)?;
        set("password", "SECRET")?;
        if let Some(own) = self.mutual {
            set("username_in", own)?;
            set("password_in", "MUTUAL-SECRET")?;
        }
        writeln!(out, "         {node} --login")
    }

    fn windows(&self, out: &mut String, portal: SocketAddr) -> std::fmt::Result {
        let (address, port) = (portal.ip(), portal.port());
        let chap = match (self.chap, self.mutual) {
            (None, _) => String::new(),
            (Some(user), None) => {
                format!(" -AuthenticationType ONEWAYCHAP -ChapUsername {user} -ChapSecret SECRET")
            }
            (Some(user), Some(_)) => {
                format!(" -AuthenticationType MUTUALCHAP -ChapUsername {user} -ChapSecret SECRET")
            }
        };
        if self.mutual.is_some() {
            writeln!(out, "Windows  Set-IscsiChapSecret -ChapSecret MUTUAL-SECRET")?;
        }
        let first = if self.mutual.is_some() { "         " } else { "Windows  " };
        writeln!(
            out,
            "{first}New-IscsiTargetPortal -TargetPortalAddress {address} -TargetPortalPortNumber {port}{chap}"
        )?;
        writeln!(out, "         Connect-IscsiTarget -NodeAddress {}{chap}", self.target)
    }

    fn qemu(&self, out: &mut String, portal: SocketAddr) -> std::fmt::Result {
        let number = self.units.first().map_or(1, |unit| unit.number);
        let is_cd = |unit: &Unit| unit.unit.options().device_type == DeviceType::Optical;
        let kind = if self.units.first().is_some_and(is_cd) { "media=cdrom,readonly=on" } else { "if=virtio" };
        let account = self.chap.map(|user| format!("{user}%SECRET@")).unwrap_or_default();
        writeln!(
            out,
            "QEMU     qemu-system-x86_64 -drive file=iscsi://{account}{portal}/{}/{number},format=raw,{kind}",
            self.target
        )
    }

    /// The name of a group's state.
    fn state(&self, number: u16) -> &'static str {
        let group = self.groups.iter().find(|group| group.number == number);
        group.and_then(|group| AccessState::from_code(group.state)).map_or("", AccessState::name)
    }

    fn json(&self) -> String {
        let units: Vec<_> = self
            .units
            .iter()
            .map(|Unit { number, place, created, unit }| {
                let limits = unit.backend().limits();
                serde_json::json!({
                    "lun": number,
                    "store": unit.backend().description().kind,
                    "place": place,
                    "created": created,
                    "bytes": limits.capacity(),
                    "block_length": limits.block_length,
                    "read_only": limits.read_only,
                    "type": match unit.options().device_type {
                        DeviceType::Disk => "disk",
                        DeviceType::Optical => "cd",
                    },
                    "serial": unit.identity().serial,
                })
            })
            .collect();
        let portals: Vec<_> = self.portals.iter().map(|portal| portal.address.to_string()).collect();
        let groups: Vec<_> = self
            .groups
            .iter()
            .map(|group| {
                let here = self.portals.iter().filter(|portal| portal.group == group.number);
                serde_json::json!({
                    "group": group.number,
                    "state": self.state(group.number),
                    "preferred": group.preferred,
                    "portals": here.map(|portal| portal.address.to_string()).collect::<Vec<_>>(),
                })
            })
            .collect();
        let whole = serde_json::json!({ "target": self.target, "portals": portals, "groups": groups, "units": units });
        format!("{whole}\n")
    }
}

/// An address that another can use: a wildcard is no place to connect to.
fn reachable(portal: SocketAddr) -> SocketAddr {
    if !portal.ip().is_unspecified() {
        return portal;
    }
    // Connecting a datagram socket sends nothing; it asks the system which address it would send from.
    let ask = |from: IpAddr, to: IpAddr| {
        let socket = UdpSocket::bind((from, 0)).ok()?;
        socket.connect((to, 9)).ok()?;
        socket.local_addr().ok().map(|address| address.ip())
    };
    let (four, six) = (Ipv4Addr::new(192, 0, 2, 1), Ipv6Addr::new(0x2001, 0xDB8, 0, 0, 0, 0, 0, 1));
    let own = ask(Ipv4Addr::UNSPECIFIED.into(), four.into())
        .or_else(|| portal.is_ipv6().then(|| ask(Ipv6Addr::UNSPECIFIED.into(), six.into())).flatten());
    SocketAddr::new(own.unwrap_or(Ipv4Addr::LOCALHOST.into()), portal.port())
}
