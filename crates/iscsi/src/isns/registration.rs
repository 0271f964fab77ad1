//! What an entity says of itself, as messages: registration, inquiry, deregistration (RFC 4171 §5.6.5).

use super::attribute::{Attribute, Tag};
use super::message::Message;
use super::objects::StateChange;
use super::wire::Function;
use crate::name::Name;
use std::net::SocketAddr;

/// iSCSI (RFC 4171 §6.2.2).
const PROTOCOL_ISCSI: u32 = 2;
/// The bit of a target in the type of a node (RFC 4171 §6.4.2).
const NODE_TARGET: u32 = 1;
/// Seconds between two entity status inquiries that are asked for.
const ESI_INTERVAL: u32 = 60;
/// A message is ended after so many bytes: it stays in one PDU whatever its last node adds.
const MESSAGE_BYTES: usize = 32 << 10;

/// An entity with its portals and its targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The entity's identifier, which no other entity has.
    pub entity: String,
    /// Seconds without a message after which the server is to forget it.
    pub period: u32,
    /// Where its targets are reached.
    pub portals: Vec<Portal>,
    /// Its targets. Without any there is nothing to register.
    pub targets: Vec<Node>,
}

/// A portal of the entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Portal {
    /// The address as initiators are to reach it.
    pub address: SocketAddr,
    /// The TCP port at this address where the server's inquiries and notifications are taken.
    pub notified_at: Option<u16>,
}

/// A target of the entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: Name,
    /// Its alias.
    pub alias: Option<String>,
    /// Through which portals it is reached, and in which portal group.
    pub portals: Vec<(SocketAddr, u16)>,
}

/// What is asked of the server beyond the bare registration. A server without a feature refuses (RFC 4171
/// §5.4), and it is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// That it inquires whether the portals are there.
    pub inquiries: bool,
    /// Portal groups with their tags.
    pub groups: bool,
}

impl Default for Features {
    fn default() -> Features {
        Features { inquiries: true, groups: true }
    }
}

/// A registration puts away what was there, or adds to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    Replace,
    Add,
}

impl Registration {
    /// Whose requests these are: any node of the entity may speak for it.
    pub(super) fn source(&self) -> Option<&Name> {
        self.targets.first().map(|target| &target.name)
    }

    /// Whether this is the name of one of the targets.
    pub(super) fn has(&self, name: &Name) -> bool {
        self.targets.iter().any(|target| target.name == *name)
    }

    fn request(&self, function: Function, source: &Name) -> Message {
        let attributes = vec![Attribute::text(Tag::ISCSI_NAME, source.as_str())];
        Message { attributes, ..Message::request(function) }
    }

    /// The requests that register everything, in their order. All but the first add to it.
    pub(super) fn register(&self, features: Features, manner: Manner) -> Vec<Message> {
        let Some(source) = self.source() else { return Vec::new() };
        let entity = || Attribute::text(Tag::ENTITY_IDENTIFIER, &self.entity);
        let start = || {
            let mut message = self.request(Function::DEVICE_ATTRIBUTE_REGISTRATION, source);
            message.attributes.extend([entity(), Attribute::empty(Tag::DELIMITER), entity()]);
            message
        };
        let mut message = start();
        message.replace = manner == Manner::Replace;
        message.attributes.push(Attribute::number(Tag::ENTITY_PROTOCOL, PROTOCOL_ISCSI));
        message.attributes.push(Attribute::number(Tag::REGISTRATION_PERIOD, self.period));
        for portal in &self.portals {
            message.attributes.push(Attribute::address(Tag::PORTAL_ADDRESS, portal.address.ip()));
            message.attributes.push(Attribute::port(Tag::PORTAL_PORT, portal.address.port()));
            let Some(port) = portal.notified_at else { continue };
            if features.inquiries {
                message.attributes.push(Attribute::number(Tag::ESI_INTERVAL, ESI_INTERVAL));
                message.attributes.push(Attribute::port(Tag::ESI_PORT, port));
            }
            message.attributes.push(Attribute::port(Tag::SCN_PORT, port));
        }
        let mut messages = Vec::new();
        for target in &self.targets {
            if message.encode().len() > MESSAGE_BYTES {
                messages.push(std::mem::replace(&mut message, start()));
            }
            self.node(target, features, &mut message.attributes);
        }
        messages.push(message);
        messages
    }

    fn node(&self, target: &Node, features: Features, attributes: &mut Vec<Attribute>) {
        attributes.push(Attribute::text(Tag::ISCSI_NAME, target.name.as_str()));
        attributes.push(Attribute::number(Tag::ISCSI_NODE_TYPE, NODE_TARGET));
        let alias = target.alias.as_deref().filter(|alias| !alias.is_empty());
        attributes.extend(alias.map(|alias| Attribute::text(Tag::ISCSI_ALIAS, alias)));
        if !features.groups {
            return;
        }
        // Every tag with its portals; then the portals that do not lead to it, which would have tag 1 otherwise
        // (RFC 4171 §5.6.5.1).
        let mut tags: Vec<Option<u16>> = target.portals.iter().map(|(_, tag)| Some(*tag)).collect();
        tags.sort_unstable();
        tags.dedup();
        tags.push(None);
        let tag_of = |portal: &Portal| {
            target.portals.iter().find(|(address, _)| *address == portal.address).map(|(_, tag)| *tag)
        };
        for tag in tags {
            let mut first = true;
            for portal in self.portals.iter().filter(|portal| tag_of(portal) == tag) {
                if std::mem::take(&mut first) {
                    attributes.push(match tag {
                        Some(tag) => Attribute::number(Tag::GROUP_TAG, tag.into()),
                        None => Attribute::empty(Tag::GROUP_TAG),
                    });
                }
                attributes.push(Attribute::address(Tag::GROUP_PORTAL_ADDRESS, portal.address.ip()));
                attributes.push(Attribute::port(Tag::GROUP_PORTAL_PORT, portal.address.port()));
            }
        }
    }

    /// Asks for the entity and its portals, which shows whether they are registered and keeps them so (RFC 4171
    /// §6.2.6).
    pub(super) fn inquire(&self) -> Option<Message> {
        let mut message = self.request(Function::DEVICE_ATTRIBUTE_QUERY, self.source()?);
        message.attributes.push(Attribute::text(Tag::ENTITY_IDENTIFIER, &self.entity));
        message.attributes.extend(
            [Tag::DELIMITER, Tag::ENTITY_IDENTIFIER, Tag::REGISTRATION_PERIOD, Tag::PORTAL_ADDRESS, Tag::PORTAL_PORT]
                .map(Attribute::empty),
        );
        Some(message)
    }

    /// Asks for notifications to each target (one to a request).
    pub(super) fn listen(&self) -> Vec<Message> {
        self.targets.iter().map(|target| listen(&target.name, StateChange::OF_INITIATORS)).collect()
    }

    /// Takes the entity with all that belongs to it out of the server.
    pub(super) fn deregister(&self) -> Option<Message> {
        let mut message = self.request(Function::DEVICE_DEREGISTRATION, self.source()?);
        message.attributes.push(Attribute::empty(Tag::DELIMITER));
        message.attributes.push(Attribute::text(Tag::ENTITY_IDENTIFIER, &self.entity));
        Some(message)
    }

    /// Takes the portals and the targets out, each target in its own name: for those that are left in another
    /// entity, of which any of them may be a part.
    pub(super) fn take_out(&self) -> Vec<Message> {
        let portals = self.portals.iter().flat_map(|portal| {
            let port = Attribute::port(Tag::PORTAL_PORT, portal.address.port());
            [Attribute::address(Tag::PORTAL_ADDRESS, portal.address.ip()), port]
        });
        let portals: Vec<Attribute> = portals.collect();
        let mut messages = Vec::new();
        for target in &self.targets {
            let name = vec![Attribute::text(Tag::ISCSI_NAME, target.name.as_str())];
            // Apart: a server may refuse the one and not the other.
            for objects in [&portals, &name].into_iter().filter(|objects| !objects.is_empty()) {
                let mut message = self.request(Function::DEVICE_DEREGISTRATION, &target.name);
                message.attributes.push(Attribute::empty(Tag::DELIMITER));
                message.attributes.extend_from_slice(objects);
                messages.push(message);
            }
        }
        messages
    }
}

fn listen(name: &Name, bitmap: u32) -> Message {
    let name = || Attribute::text(Tag::ISCSI_NAME, name.as_str());
    let attributes =
        vec![name(), name(), Attribute::empty(Tag::DELIMITER), Attribute::number(Tag::ISCSI_SCN_BITMAP, bitmap)];
    Message { attributes, ..Message::request(Function::STATE_CHANGE_REGISTRATION) }
}

/// What an initiator asks: all targets that it may see, with their portals and portal group tags. The answer
/// is read by [`found_targets`](super::found_targets).
pub fn find_targets(initiator: &Name) -> Message {
    let mut attributes = vec![
        Attribute::text(Tag::ISCSI_NAME, initiator.as_str()),
        Attribute::number(Tag::ISCSI_NODE_TYPE, NODE_TARGET),
    ];
    attributes.extend(
        [Tag::DELIMITER, Tag::ISCSI_NAME, Tag::ISCSI_ALIAS, Tag::PORTAL_ADDRESS, Tag::PORTAL_PORT, Tag::GROUP_TAG]
            .map(Attribute::empty),
    );
    Message { attributes, ..Message::request(Function::DEVICE_ATTRIBUTE_QUERY) }
}

/// What an initiator asks to be notified of changes of targets.
pub fn listen_for_targets(initiator: &Name) -> Message {
    listen(initiator, StateChange::OF_TARGETS)
}
