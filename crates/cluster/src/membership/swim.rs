//! The state machine of one node.

use super::codec::PeerCodec;
use super::peer::{Peer, PeerState};
use super::rng::Seeded;
use base::rng::Rng;
use foca::{Foca, NoCustomBroadcast, OwnedNotification, PeriodicParams};
use ring::NodeId;
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

/// Renewals one after the other that a node may need without its generation being an old one.
const RENEWALS_USUAL: u32 = 3;
/// Largest step of a generation, as a power of two: 12 days of microseconds.
const STEP_BITS_MAX: u32 = 40;

/// How eagerly nodes look after each other. All nodes of a cluster have the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Each node probes one other so often, in microseconds. Default 1 s.
    pub probe_period_micros: u64,
    /// How long the answer to a probe may take before others are asked to probe too, in microseconds; less than half of the
    /// period. Default 300 ms.
    pub probe_timeout_micros: u64,
    /// How many others. Default 3.
    pub indirect_probes: usize,
    /// Periods for which a suspected node may refute it, before it counts as dead, for each power of ten of `nodes_max`, and at least one
    /// of these. Default 4.
    pub suspicion_periods: u64,
    /// What is new is sent on so often, in microseconds, beside what rides on probes. Default 200 ms.
    pub gossip_period_micros: u64,
    /// To how many. Default 3.
    pub gossip_fanout: usize,
    /// How often a node asks another who is there, and one that is alone or sees dead ones asks these, in microseconds. Default 10 s.
    pub announce_period_micros: u64,
    /// For how long a dead node is remembered, in microseconds: what comes late is not taken for news until then. Default 24 h.
    pub forget_after_micros: u64,
    /// The largest cluster that is planned: news are passed on, and suspicions may last, in proportion to its logarithm.
    /// Default 100.
    pub nodes_max: u32,
    /// Most bytes of a packet. Default 8 KiB.
    pub packet_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            probe_period_micros: 1_000_000,
            probe_timeout_micros: 300_000,
            indirect_probes: 3,
            suspicion_periods: 4,
            gossip_period_micros: 200_000,
            gossip_fanout: 3,
            announce_period_micros: 10_000_000,
            forget_after_micros: 24 * 3600 * 1_000_000,
            nodes_max: 100,
            packet_bytes_max: 8 << 10,
        }
    }
}

impl Config {
    /// Every broken rule, a line each.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let (period, timeout) = (self.probe_period_micros, self.probe_timeout_micros);
        if timeout == 0 || timeout >= period / 2 {
            faults.push(format!(
                "probe_timeout_micros {timeout} is not below half of probe_period_micros {period}"
            ));
        }
        if !(512..=1 << 16).contains(&self.packet_bytes_max) {
            let bytes = self.packet_bytes_max;
            faults.push(format!("packet_bytes_max {bytes} is outside 512 B to 64 KiB"));
        }
        for (name, value) in [
            ("indirect_probes", self.indirect_probes as u64),
            ("gossip_fanout", self.gossip_fanout as u64),
            ("gossip_period_micros", self.gossip_period_micros),
            ("announce_period_micros", self.announce_period_micros),
            ("suspicion_periods", self.suspicion_periods),
        ] {
            if value == 0 {
                faults.push(format!("{name} is 0"));
            }
        }
        faults
    }

    /// For how long a suspected node may refute it, in microseconds.
    #[must_use]
    pub fn suspicion_micros(&self) -> u64 {
        let powers = f64::from(self.nodes_max.max(10)).log10();
        (self.suspicion_periods as f64 * powers * self.probe_period_micros as f64) as u64
    }

    fn for_foca(&self) -> foca::Config {
        let micros = |micros: u64| Duration::from_micros(micros.max(1));
        let some = |count: usize| NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN);
        let periodic = |period, count| {
            Some(PeriodicParams { frequency: micros(period), num_members: some(count) })
        };
        // News reach all nodes with near certainty after so many times the logarithm of their number.
        let transmissions = 8 * (f64::from(self.nodes_max.max(10)).log10().ceil() as u8);
        let announce = periodic(self.announce_period_micros, 1);
        foca::Config {
            probe_period: micros(self.probe_period_micros),
            probe_rtt: micros(self.probe_timeout_micros),
            num_indirect_probes: some(self.indirect_probes),
            max_transmissions: NonZeroU8::new(transmissions).unwrap_or(NonZeroU8::MIN),
            suspect_to_down_after: micros(self.suspicion_micros()),
            remove_down_after: Some(micros(self.forget_after_micros)),
            max_packet_size: some(self.packet_bytes_max),
            notify_down_members: true,
            periodic_announce: announce.clone(),
            periodic_announce_to_down_members: announce,
            periodic_gossip: periodic(self.gossip_period_micros, self.gossip_fanout),
        }
    }
}

/// What a node is told.
#[derive(Debug)]
pub enum Event {
    /// Join the cluster of these nodes; some of them may not be there, or be this one.
    Join(Vec<NodeId>),
    /// A packet arrived.
    Packet(Vec<u8>),
    /// A timer that was asked for is due.
    Timer(SwimTimer),
    /// This node says something else of itself now.
    Changed {
        /// What fails together with it.
        zone: String,
        /// Its capacity.
        weight: u32,
    },
    /// This node goes: tell the others.
    Leave,
}

/// What a node wants done.
#[derive(Debug)]
pub enum Effect {
    /// Send a packet; whether it arrives does not matter much.
    Send {
        /// Whom to.
        to: NodeId,
        /// Its bytes.
        packet: Vec<u8>,
    },
    /// Come back with the timer.
    After {
        /// When, from now.
        micros: u64,
        /// Which one.
        timer: SwimTimer,
    },
    /// A node is there: new, or again.
    Up(Peer),
    /// A node died, or left.
    Down(Peer),
    /// Others thought this node dead. It is one of them again as this peer: its generation has grown.
    Renewed(Peer),
}

/// A timer. Its holder hands it back and looks at nothing in it.
#[derive(Debug)]
pub struct SwimTimer(Kind);

#[derive(Debug)]
enum Kind {
    Foca(foca::Timer<Peer>),
    /// Look whether this node is alone.
    Rejoin,
}

/// Failure detection of one node.
pub struct Swim {
    config: Config,
    foca: Foca<Peer, PeerCodec, Seeded, NoCustomBroadcast>,
    /// Whom to ask when nobody else is left.
    seeds: Vec<NodeId>,
    rng: Rng,
    /// Renewals since this node last looked whether it is alone.
    renewals: u32,
    refused: u64,
    left: bool,
}

impl Swim {
    /// The node `me`, alone. `seed` says whom it probes in which order.
    #[must_use]
    pub fn new(me: Peer, config: Config, seed: u64) -> Swim {
        let mut rng = Rng::new(seed);
        let theirs = Seeded(Rng::new(rng.next_u64()));
        let foca = Foca::new(me, config.for_foca(), theirs, PeerCodec::default());
        Swim { config, foca, seeds: Vec::new(), rng, renewals: 0, refused: 0, left: false }
    }

    /// The first thing to do: what keeps a node going that nobody knows.
    #[must_use]
    pub fn begin(&mut self) -> Vec<Effect> {
        vec![self.look_again()]
    }

    /// Takes an event. What is not understood is counted, and changes nothing.
    pub fn handle(&mut self, event: Event) -> Vec<Effect> {
        let mut sink = Sink::default();
        if self.left {
            return sink.effects;
        }
        let done = match event {
            Event::Join(seeds) => {
                self.seeds = seeds;
                self.announce(&mut sink)
            }
            Event::Packet(packet) => self.foca.handle_data(&packet, &mut sink),
            Event::Timer(SwimTimer(Kind::Foca(timer))) => self.foca.handle_timer(timer, &mut sink),
            Event::Timer(SwimTimer(Kind::Rejoin)) => {
                self.renewals = 0;
                sink.effects.push(self.look_again());
                if self.foca.num_members() == 0 { self.announce(&mut sink) } else { Ok(()) }
            }
            Event::Changed { zone, weight } => {
                let me = self.me().clone();
                let zone = zone.into();
                let me = Peer { generation: me.generation.saturating_add(1), zone, weight, ..me };
                self.foca.change_identity(me, &mut sink)
            }
            Event::Leave => {
                self.left = true;
                self.foca.leave_cluster(&mut sink)
            }
        };
        self.refused += u64::from(done.is_err());
        self.pass_older_selves(&mut sink);
        sink.effects
    }

    /// This node, as it says of itself.
    #[must_use]
    pub fn me(&self) -> &Peer {
        self.foca.identity()
    }

    /// All other nodes that were heard of, in no order.
    pub fn peers(&self) -> impl Iterator<Item = PeerState> + '_ {
        let me = self.me().id;
        let others = self.foca.iter_membership_state().filter(move |member| member.id().id != me);
        others.map(PeerState::of)
    }

    /// Other nodes that are not dead.
    #[must_use]
    pub fn peers_alive(&self) -> usize {
        self.foca.num_members()
    }

    /// News that wait to be passed on.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.foca.updates_backlog()
    }

    /// Events that were not understood, or came at the wrong time.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    fn look_again(&mut self) -> Effect {
        // Not all nodes at once.
        let micros = self.config.announce_period_micros;
        let micros = micros / 2 + self.rng.below(micros);
        Effect::After { micros, timer: SwimTimer(Kind::Rejoin) }
    }

    /// Asks the seeds, and all that were ever known, to let this node in.
    fn announce(&mut self, sink: &mut Sink) -> Result<(), foca::Error> {
        let me = self.me().id;
        let mut known = self.seeds.clone();
        known.extend(self.peers().take(self.config.gossip_fanout).map(|state| state.peer.id));
        known.sort_unstable();
        known.dedup();
        known.retain(|node| *node != me);
        known.iter().try_for_each(|node| self.foca.announce(Peer::stranger(*node), &mut *sink))
    }

    /// A clock that went back may have given this node a generation that is not the greatest it ever had. Those who know better then
    /// think it dead, again and again, and say no more than that: its steps grow until they are large enough.
    fn pass_older_selves(&mut self, sink: &mut Sink) {
        if !sink.effects.iter().any(|effect| matches!(effect, Effect::Renewed(_))) {
            return;
        }
        self.renewals += 1;
        if self.renewals <= RENEWALS_USUAL {
            return;
        }
        let me = self.me().clone();
        let step = 1u64 << (self.renewals - RENEWALS_USUAL).min(STEP_BITS_MAX);
        let me = Peer { generation: me.generation.saturating_add(step), ..me };
        sink.effects.retain(|effect| !matches!(effect, Effect::Renewed(_)));
        sink.effects.push(Effect::Renewed(me.clone()));
        self.refused += u64::from(self.foca.change_identity(me, &mut *sink).is_err());
    }
}

impl std::fmt::Debug for Swim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Swim")
            .field("me", self.me())
            .field("peers_alive", &self.peers_alive())
            .finish()
    }
}

#[derive(Debug, Default)]
struct Sink {
    effects: Vec<Effect>,
}

impl foca::Runtime<Peer> for Sink {
    fn notify(&mut self, notification: foca::Notification<'_, Peer>) {
        self.effects.extend(match notification.to_owned() {
            OwnedNotification::MemberUp(peer) => Some(Effect::Up(peer)),
            OwnedNotification::MemberDown(peer) => Some(Effect::Down(peer)),
            OwnedNotification::Rejoin(peer) => Some(Effect::Renewed(peer)),
            // What is known of a peer is asked for when it is needed; of being alone nobody learns anything.
            _ => None,
        });
    }

    fn send_to(&mut self, to: Peer, data: &[u8]) {
        self.effects.push(Effect::Send { to: to.id, packet: data.to_vec() });
    }

    fn submit_after(&mut self, event: foca::Timer<Peer>, after: Duration) {
        let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        self.effects.push(Effect::After { micros, timer: SwimTimer(Kind::Foca(event)) });
    }
}
