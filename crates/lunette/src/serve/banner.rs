//! What `lunette serve` says when it is ready: the target, its disks, and how to connect.

use super::units::Unit;
use crate::logging::Format;
use lun::DeviceType;
use scsi::port_groups::{AccessState, Group};
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use stores::Size;
use target::{Portal, Target};

/// Targets that are told one by one.
const TOLD: usize = 16;

/// What is to be told.
pub struct Banner<'a> {
    targets: &'a [Arc<Target>],
    /// Their disks.
    units: &'a [&'a [Unit]],
    /// Where they listen.
    portals: &'a [Portal],
}

/// A target with what it takes to log in to it.
struct One<'a> {
    name: &'a str,
    units: &'a [Unit],
    /// The user of CHAP, and the target's own.
    chap: Option<&'a str>,
    mutual: Option<&'a str>,
}

impl<'a> Banner<'a> {
    /// These targets with their units, at these portals.
    pub fn new(targets: &'a [Arc<Target>], units: &'a [&'a [Unit]], portals: &'a [Portal]) -> Banner<'a> {
        Banner { targets, units, portals }
    }

    /// The whole text, for people or as one JSON object.
    pub fn text(&self, format: Format) -> String {
        match format {
            Format::Auto | Format::Text | Format::Journald => self.people().unwrap_or_default(),
            Format::Json => self.json(),
        }
    }

    fn people(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        let groups = self.groups();
        let all: Vec<_> = self.targets.iter().zip(self.units).map(|(target, units)| One::new(target, units)).collect();
        if let [one] = &all[..] {
            writeln!(out, "Target   {}", one.name)?;
        }
        for portal in self.portals {
            let Portal { address, group, advertise } = portal;
            write!(out, "Portal   {address},{group}")?;
            if let Some(advertised) = advertise {
                write!(out, " as {advertised}")?;
            }
            match state(&groups, *group) {
                // What every target is that has one group, nobody needs to be told.
                "active-optimized" if groups.len() == 1 => writeln!(out)?,
                state => writeln!(out, " ({state})")?,
            }
        }
        let portal = self.portals.first().map(|portal| match &portal.advertise {
            Some(advertised) => advertised.to_string(),
            None => reachable(portal.address).to_string(),
        });
        if let [one] = &all[..] {
            one.disks(&mut out)?;
            if let Some(portal) = portal {
                writeln!(out)?;
                one.linux(&mut out, &portal)?;
                one.windows(&mut out, &portal)?;
                one.qemu(&mut out, &portal)?;
            }
            return Ok(out);
        }
        for one in all.iter().take(TOLD) {
            writeln!(out, "\nTarget   {}", one.name)?;
            one.disks(&mut out)?;
        }
        if all.len() > TOLD {
            writeln!(out, "\n… and {} more targets", all.len() - TOLD)?;
        }
        if let Some(portal) = portal {
            writeln!(out, "\nLinux    iscsiadm --mode discovery --type sendtargets --portal {portal}")?;
        }
        Ok(out)
    }

    /// The portal groups of all targets, by number, as they are at the beginning.
    fn groups(&self) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        for group in self.targets.iter().flat_map(|target| target.groups.report()) {
            if !groups.iter().any(|other| other.number == group.number) {
                groups.push(group);
            }
        }
        groups.sort_by_key(|group| group.number);
        groups
    }

    fn json(&self) -> String {
        let portals: Vec<_> = self.portals.iter().map(|portal| portal.address.to_string()).collect();
        let groups = self.groups();
        let told: Vec<_> = groups
            .iter()
            .map(|group| {
                let here = self.portals.iter().filter(|portal| portal.group == group.number);
                serde_json::json!({
                    "group": group.number,
                    "state": state(&groups, group.number),
                    "preferred": group.preferred,
                    "portals": here.map(|portal| portal.address.to_string()).collect::<Vec<_>>(),
                })
            })
            .collect();
        let mut targets: Vec<_> =
            self.targets.iter().zip(self.units).map(|(target, units)| One::new(target, units).json()).collect();
        let whole = match (targets.len(), targets.pop()) {
            (1, Some((name, units))) => {
                serde_json::json!({ "target": name, "portals": portals, "groups": told, "units": units })
            }
            (_, last) => {
                let one = |(name, units)| serde_json::json!({ "target": name, "units": units });
                let targets: Vec<_> = targets.into_iter().chain(last).map(one).collect();
                serde_json::json!({ "portals": portals, "groups": told, "targets": targets })
            }
        };
        format!("{whole}\n")
    }
}

/// The name of a group's state.
fn state(groups: &[Group], number: u16) -> &'static str {
    let group = groups.iter().find(|group| group.number == number);
    group.and_then(|group| AccessState::from_code(group.state)).map_or("", AccessState::name)
}

impl<'a> One<'a> {
    fn new(target: &'a Target, units: &'a [Unit]) -> One<'a> {
        let chap = target.access.rules.iter().find_map(|rule| rule.chap.as_ref());
        One {
            name: &target.name,
            units,
            chap: chap.and_then(|chap| chap.accounts.first()).map(|account| account.user.as_str()),
            mutual: chap.and_then(|chap| chap.own.as_ref()).map(|account| account.user.as_str()),
        }
    }

    fn disks(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "\nLUN    SIZE      BLOCK  DISK")?;
        for Unit { number, place, created, unit, .. } in self.units {
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
        Ok(())
    }

    fn linux(&self, out: &mut String, portal: &str) -> std::fmt::Result {
        let target = self.name;
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

    fn windows(&self, out: &mut String, portal: &str) -> std::fmt::Result {
        let (address, port) = portal.rsplit_once(':').unwrap_or((portal, "3260"));
        let address = address.trim_matches(['[', ']']);
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
        writeln!(out, "         Connect-IscsiTarget -NodeAddress {}{chap}", self.name)
    }

    fn qemu(&self, out: &mut String, portal: &str) -> std::fmt::Result {
        let number = self.units.first().map_or(1, |unit| unit.number);
        let is_cd = |unit: &Unit| unit.unit.options().device_type == DeviceType::Optical;
        let kind = if self.units.first().is_some_and(is_cd) { "media=cdrom,readonly=on" } else { "if=virtio" };
        let account = self.chap.map(|user| format!("{user}%SECRET@")).unwrap_or_default();
        writeln!(
            out,
            "QEMU     qemu-system-x86_64 -drive file=iscsi://{account}{portal}/{}/{number},format=raw,{kind}",
            self.name
        )
    }

    fn json(&self) -> (&'a str, Vec<serde_json::Value>) {
        let units: Vec<_> = self
            .units
            .iter()
            .map(|Unit { number, place, created, unit, .. }| {
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
        (self.name, units)
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
