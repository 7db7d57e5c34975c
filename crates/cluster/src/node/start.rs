//! Sessions: a node says that it is there, and others record it, so that a disk that forgets is found out.
//!
//! A start serves once a majority, itself included, has answered. A session is *announced* once so many others have recorded it that any
//! such majority has one of them, beside the node itself.

use super::{Node, failure_of};
use crate::codec::message::{Answer, Hello, HelloIs};
use crate::transport::{Failure, Reply};
use base::planted;
use base::sync::Mutex;
use base::sync::atomic::Ordering;
use ring::NodeId;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How long a node waits before it asks those again that did not answer.
const AGAIN_MICROS: u64 = 200_000;

/// Who has recorded a session.
struct Recorded {
    session: u64,
    by: Mutex<BTreeSet<NodeId>>,
}

impl Node {
    /// Tells the members of this session, until enough of them have recorded it.
    pub(super) fn introduce(&self) {
        let by = Mutex::new(BTreeSet::from([self.id]));
        let recorded = Arc::new(Recorded { session: self.replica.session(), by });
        self.work(move |node| node.say_hello(&recorded));
    }

    fn say_hello(self: &Arc<Self>, recorded: &Arc<Recorded>) {
        if self.is_settled(recorded) {
            return;
        }
        let view = self.view();
        for &member in view.members() {
            if recorded.by.lock().contains(&member) {
                continue;
            }
            let told = Arc::clone(recorded);
            let hello = Hello { session: recorded.session, nonce: self.options.nonce };
            self.call(self.epoch(), member, self.patience(), hello, move |node, ended| {
                // Who knows a newer topology is heard under that one: it says whose answers are needed.
                if let Ok(Reply { epoch, answer: Answer::HelloIs(answer) }) = ended
                    && epoch <= node.epoch()
                {
                    node.heard(member, &answer, &told);
                }
            });
        }
        let again = Arc::clone(recorded);
        self.later(AGAIN_MICROS, move |node| node.work(move |node| node.say_hello(&again)));
    }

    fn heard(self: &Arc<Self>, member: NodeId, answer: &HelloIs, recorded: &Arc<Recorded>) {
        if recorded.session != self.replica.session() {
            return;
        }
        if answer.known >= recorded.session && !planted::is(82) {
            // It knows this session, or a later one, of a disk that this one is older than.
            return self.renew(answer.known);
        }
        recorded.by.lock().insert(member);
        self.is_settled(recorded);
    }

    /// True if there is nothing more to do for this session.
    fn is_settled(&self, recorded: &Recorded) -> bool {
        if recorded.session != self.replica.session() {
            return true;
        }
        let view = self.view();
        let by = recorded.by.lock().iter().filter(|node| view.members().contains(node)).count();
        if by >= view.majority() {
            let mut waiting = self.ready.lock();
            self.started.store(true, Ordering::SeqCst);
            waiting.drain(..).for_each(|teller| teller.tell(()));
        }
        // The node itself forgets with its disk: so many others that each start asks one of them.
        let enough = (view.members().len() + 2 - view.majority()).min(view.members().len());
        if by >= enough {
            self.announced.fetch_max(recorded.session, Ordering::SeqCst);
        }
        by >= enough
    }

    /// The disk has lost something: the node is somebody else from now on.
    fn renew(&self, known: u64) {
        let session = known.max(self.replica.session()) + 1;
        if self.replica.renew((self.actors)(), session).is_ok() {
            self.introduce();
        }
    }

    /// Somebody has seen dots of this node that it does not know.
    pub(crate) fn renew_if_outdated(&self) {
        if self.replica.take_outdated() && !planted::is(82) {
            self.renew(0);
        }
    }

    /// Whoever counts towards a majority now has to know the session, too.
    pub(super) fn introduce_again(&self) {
        self.announced.store(0, Ordering::SeqCst);
        self.introduce();
    }

    /// Begins a session every now and then while something is written, so that a disk that is put back to a copy of it meets a later
    /// one.
    pub(super) fn go_on_announcing(self: &Arc<Self>) {
        self.later(self.options.announce_micros, |node| {
            node.work(|node| {
                if node.is_ready() && node.replica.begin_session().is_ok_and(|begun| begun) {
                    node.introduce();
                }
                node.go_on_announcing();
            });
        });
    }

    /// Records a session of another node; says which session of another start was known.
    pub(super) fn hello(&self, from: NodeId, hello: &Hello) -> Result<HelloIs, Failure> {
        let meta = self.replica.meta();
        let known = meta.start_of(from).map_err(|error| failure_of(&error))?;
        if known.as_ref().is_none_or(|known| known.session < hello.session) {
            meta.set_start_of(from, hello).map_err(|error| failure_of(&error))?;
        }
        self.learn_start(from, hello.nonce);
        let known = match known {
            // The same start, asked again or going on: of the one before it is only known that it was an earlier one.
            Some(known) if known.nonce == hello.nonce => hello.session.saturating_sub(1),
            Some(known) => known.session,
            None => 0,
        };
        Ok(HelloIs { known })
    }
}
