//! What `foca` says, as bytes.
//!
//! ```text
//! packet     header, then, where the message carries any, a number u16 BE and so many members
//! header     version u8, the sender as a peer, its incarnation varint, the receiver as a name,
//!            message u8 and its fields: names, and the number of the probe u8
//! member     peer, incarnation varint, state u8
//! peer       id varint, generation varint, zone behind its length, weight varint
//! name       id varint, generation varint: enough for whoever is asked to pass something on
//! ```

use super::peer::Peer;
use crate::codec::DecodeError;
use crate::codec::wire::{Input, Wire, check, invalid};
use base::coding::put_length_prefixed;
use bytes::{Buf, BufMut};
use foca::{Header, Member, Message, State};
use ring::{NodeId, ZONE_LEN_MAX};
use std::collections::BTreeSet;
use std::sync::Arc;

const VERSION: u8 = 1;
/// Most names of zones that are kept for use again.
const ZONES_MAX: usize = 1 << 10;

/// Why a packet is not encoded or decoded.
#[derive(Debug, thiserror::Error)]
pub(super) enum CodecError {
    /// It does not fit what is left of the packet; `foca` then sends less.
    #[error("no room in the packet")]
    NoRoom,
    /// Bytes that nobody sent.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// Keeps the names of zones, so that a thousand members have the memory of a handful.
#[derive(Debug, Default)]
pub(super) struct PeerCodec {
    zones: BTreeSet<Arc<str>>,
}

impl PeerCodec {
    fn zone(&mut self, name: &str) -> Arc<str> {
        if let Some(zone) = self.zones.get(name) {
            return Arc::clone(zone);
        }
        let zone: Arc<str> = Arc::from(name);
        if self.zones.len() < ZONES_MAX {
            self.zones.insert(Arc::clone(&zone));
        }
        zone
    }

    fn take_peer(&mut self, input: &mut Input<'_>) -> Result<Peer, DecodeError> {
        let (id, generation) = (NodeId::take(input)?, u64::take(input)?);
        let zone = input.bytes("zone")?;
        check(zone.len() <= ZONE_LEN_MAX, "zone")?;
        let zone = self.zone(std::str::from_utf8(zone).map_err(|_| invalid("zone"))?);
        Ok(Peer { id, generation, zone, weight: u32::take(input)? })
    }

    fn take_header(&mut self, input: &mut Input<'_>) -> Result<Header<Peer>, DecodeError> {
        let version = input.u8("version")?;
        if version != VERSION {
            return Err(DecodeError::UnknownVersion { version });
        }
        Ok(Header {
            src: self.take_peer(input)?,
            src_incarnation: u16::take(input)?,
            dst: take_name(input)?,
            message: take_message(input)?,
        })
    }

    fn take_member(&mut self, input: &mut Input<'_>) -> Result<Member<Peer>, DecodeError> {
        let (peer, incarnation) = (self.take_peer(input)?, u16::take(input)?);
        let state = match input.u8("state")? {
            1 => State::Alive,
            2 => State::Suspect,
            3 => State::Down,
            _ => return Err(invalid("state")),
        };
        Ok(Member::new(peer, incarnation, state))
    }
}

impl foca::Codec<Peer> for PeerCodec {
    type Error = CodecError;

    fn encode_header(&mut self, header: &Header<Peer>, buf: impl BufMut) -> Result<(), CodecError> {
        let mut bytes = vec![VERSION];
        put_peer(&header.src, &mut bytes);
        header.src_incarnation.put(&mut bytes);
        put_name(&header.dst, &mut bytes);
        put_message(&header.message, &mut bytes);
        put(buf, &bytes)
    }

    fn decode_header(&mut self, buf: impl Buf) -> Result<Header<Peer>, CodecError> {
        take(buf, |input| self.take_header(input))
    }

    fn encode_member(&mut self, member: &Member<Peer>, buf: impl BufMut) -> Result<(), CodecError> {
        let mut bytes = Vec::new();
        put_peer(member.id(), &mut bytes);
        member.incarnation().put(&mut bytes);
        bytes.push(match member.state() {
            State::Alive => 1,
            State::Suspect => 2,
            State::Down => 3,
        });
        put(buf, &bytes)
    }

    fn decode_member(&mut self, buf: impl Buf) -> Result<Member<Peer>, CodecError> {
        take(buf, |input| self.take_member(input))
    }
}

/// All or nothing, as `foca` asks for.
fn put(mut buf: impl BufMut, bytes: &[u8]) -> Result<(), CodecError> {
    if buf.remaining_mut() < bytes.len() {
        return Err(CodecError::NoRoom);
    }
    buf.put_slice(bytes);
    Ok(())
}

/// One item from the front. `foca` hands over bytes that lie in one piece.
fn take<T>(
    mut buf: impl Buf,
    item: impl FnOnce(&mut Input<'_>) -> Result<T, DecodeError>,
) -> Result<T, CodecError> {
    let mut input = Input::new(buf.chunk());
    let taken = item(&mut input)?;
    let used = buf.chunk().len() - input.rest();
    buf.advance(used);
    Ok(taken)
}

fn put_peer(peer: &Peer, out: &mut Vec<u8>) {
    put_name(peer, out);
    put_length_prefixed(out, peer.zone.as_bytes());
    peer.weight.put(out);
}

fn put_name(peer: &Peer, out: &mut Vec<u8>) {
    peer.id.put(out);
    peer.generation.put(out);
}

fn take_name(input: &mut Input<'_>) -> Result<Peer, DecodeError> {
    let (id, generation) = (NodeId::take(input)?, u64::take(input)?);
    Ok(Peer { generation, ..Peer::stranger(id) })
}

fn put_message(message: &Message<Peer>, out: &mut Vec<u8>) {
    let (kind, name, probe) = match message {
        Message::Ping(probe) => (1, None, Some(*probe)),
        Message::Ack(probe) => (2, None, Some(*probe)),
        Message::PingReq { target, probe_number } => (3, Some(target), Some(*probe_number)),
        Message::IndirectPing { origin, probe_number } => (4, Some(origin), Some(*probe_number)),
        Message::IndirectAck { target, probe_number } => (5, Some(target), Some(*probe_number)),
        Message::ForwardedAck { origin, probe_number } => (6, Some(origin), Some(*probe_number)),
        Message::Announce => (7, None, None),
        Message::Feed => (8, None, None),
        Message::Gossip => (9, None, None),
        Message::Broadcast => (10, None, None),
        Message::TurnUndead => (11, None, None),
    };
    out.push(kind);
    name.into_iter().for_each(|peer| put_name(peer, out));
    out.extend(probe);
}

fn take_message(input: &mut Input<'_>) -> Result<Message<Peer>, DecodeError> {
    let probe = |input: &mut Input<'_>| input.u8("probe");
    Ok(match input.u8("gossip")? {
        1 => Message::Ping(probe(input)?),
        2 => Message::Ack(probe(input)?),
        3 => Message::PingReq { target: take_name(input)?, probe_number: probe(input)? },
        4 => Message::IndirectPing { origin: take_name(input)?, probe_number: probe(input)? },
        5 => Message::IndirectAck { target: take_name(input)?, probe_number: probe(input)? },
        6 => Message::ForwardedAck { origin: take_name(input)?, probe_number: probe(input)? },
        7 => Message::Announce,
        8 => Message::Feed,
        9 => Message::Gossip,
        10 => Message::Broadcast,
        11 => Message::TurnUndead,
        kind => return Err(DecodeError::UnknownKind { kind }),
    })
}
