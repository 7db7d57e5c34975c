//! The quick size of every family, as a part of `cargo test`.

use torture::{Config, Size};

fn quick(family: &str) {
    let family = torture::family(family).expect("known");
    let report = match (family.run)(&Config::new(Size::Quick)) {
        Ok(report) => report,
        Err(failure) => panic!("{failure}"),
    };
    println!("{}: {report:?}", family.name);
    if report.skipped.is_none() {
        let short: Vec<_> = report.figures.iter().filter(|figure| !figure.is_reached()).collect();
        assert!(short.is_empty(), "too few: {short:?}");
    }
}

/// The alarm itself: with something planted, each family must fail and say how to see it again.
fn notices(family: &str) {
    let family = torture::family(family).expect("known");
    let failure = (family.run)(&Config { canary: true, ..Config::new(Size::Quick) });
    let failure = failure.expect_err("what was planted went unnoticed");
    assert!(failure.replay.contains("--canary") && !failure.detail.is_empty(), "{failure}");
}

macro_rules! families {
    ($($family:ident)*) => {
        $(
            mod $family {
                #[test]
                fn finds_nothing_wrong() {
                    super::quick(stringify!($family));
                }
                #[test]
                fn notices_what_is_planted() {
                    super::notices(stringify!($family));
                }
            }
        )*
    };
}
families!(crash fault meta corrupt fuzz cluster moves kill);

/// These compile programs of their own: `cargo xtask torture schedule planted` runs them.
mod with_builds {
    #[test]
    #[ignore = "compiles for the checkers: cargo xtask torture schedule"]
    fn schedule() {
        super::quick("schedule");
        super::notices("schedule");
    }

    #[test]
    #[ignore = "compiles the planted bugs: cargo xtask torture planted"]
    fn planted() {
        super::quick("planted");
        super::notices("planted");
    }
}

/// The process that `kill` kills; does nothing unless it was started as one.
#[test]
fn child_writer() {
    torture::child_if_asked();
}
