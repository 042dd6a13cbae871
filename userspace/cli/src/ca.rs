//! `weft ca init` and `weft ca rotate`: the certificate authority of a mesh, in a directory or in a cluster's Secret.

mod secret;

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use clap::{Subcommand, ValueEnum};
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;
use weft_identity::{
    Clock, Signer,
    ca::{self, CaError, Keeping, Standing},
};

use weft_model::ObjectName;

use crate::{Error, Exit, Screen, describe::fields, output::Format, status::duration, units};

/// What to do with an authority.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// Make a root and an issuer
    #[command(after_help = "\
Makes the directory if need be. Refused where there is an authority already.

Exit code: 0 made; 1 there is one; 2 could not be made.

Example:
  weft ca init --dir /etc/weft/ca --trust-domain cluster.local")]
    Init(Init),
    /// Replace the issuer or, in two steps, the root
    #[command(after_help = "\
The issuer: agents sign with the new one from then on; what the old one signed is
valid until it ends.

The root: the new one is trusted beside the old one, which also signs it, so that
nodes may learn of it in any order. When the certificates of the old one have
ended, --finish stops trusting it, and refuses to do so earlier.

In a cluster, controllers do all of that by themselves when it is time; this is for
who cannot wait.

Exit code: 0 done; 1 not now; 2 could not be done.

Examples:
  weft ca rotate --dir /etc/weft/ca issuer
  weft ca rotate --dir /etc/weft/ca root
  weft ca rotate --dir /etc/weft/ca root --finish
  weft ca rotate --secret weft-system/weft-ca root")]
    Rotate(Rotate),
}

#[derive(clap::Args, Clone, Debug)]
struct Init {
    /// The directory of the authority
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The trust domain of the mesh, as MeshConfig names it; it is in every identity
    #[arg(long, value_name = "NAME", default_value = "cluster.local")]
    trust_domain: String,
    /// How the answer is written: table, json or yaml
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t, hide_possible_values = true)]
    output: Format,
}

#[derive(clap::Args, Clone, Debug)]
struct Rotate {
    /// The directory of the authority
    #[arg(long, value_name = "DIR", required_unless_present = "secret")]
    dir: Option<PathBuf>,
    /// The Secret of the authority that controllers have made
    #[arg(long, value_name = "NAMESPACE/NAME", conflicts_with = "dir", value_parser = secret::name)]
    secret: Option<ObjectName>,
    /// With --secret: the cluster, by the current context of a kubeconfig [default: as kubectl finds it]
    #[arg(long, value_name = "FILE", requires = "secret")]
    kubeconfig: Option<PathBuf>,
    /// Which of its certificates [default: issuer]
    #[arg(value_enum)]
    part: Option<Part>,
    /// Stop trusting the root that was replaced
    #[arg(long)]
    finish: bool,
    /// With --finish: how long certificates of the old root may live after it was replaced; 0s cuts them off [default: 24h; with
    /// --secret as long as MeshConfig's certificates.ttl says, if that is longer]
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "finish")]
    overlap: Option<Duration>,
    /// How the answer is written: table, json or yaml
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t, hide_possible_values = true)]
    output: Format,
}

/// A certificate of the authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// What signs workloads' certificates
    Issuer,
    /// What signs issuers, and is trusted
    Root,
}

/// Runs `weft ca`.
pub async fn run(args: Args, screen: &mut Screen) -> Result<Exit, Error> {
    let (output, done, next) = act(args.what).await?;
    match done {
        Ok(standing) => {
            let answer = Answer::of(&standing, next.sentence(&standing));
            output.write(screen, &answer, |answer, screen| page(answer, SystemTime::now(), screen.zone()))?;
            Ok(Exit::Yes)
        }
        Err(error) if error.is_refusal() => {
            screen.note(&format!("weft: {error}"))?;
            Ok(Exit::No)
        }
        Err(error) => Err(error.into()),
    }
}

/// What came of it, and what is to be done next.
type Acted = (Format, Result<Standing, CaError>, Next);

/// What a person does next.
#[derive(Clone, Copy)]
enum Next {
    KeepTheRootAway,
    UseTheIssuer,
    Finish,
    DeleteTheOldRoot,
}

/// A step of a rotation.
#[derive(Clone, Copy)]
enum Step {
    Issuer,
    Root,
    /// `None` for as long as certificates may live.
    Finish {
        overlap: Option<Duration>,
    },
}

async fn act(what: What) -> Result<Acted, Error> {
    let clock = Clock::system();
    let Rotate { dir, secret, kubeconfig, part, finish, overlap, output } = match what {
        What::Init(Init { dir, trust_domain, output }) => {
            return Ok((output, ca::init(&dir, &trust_domain, &clock), Next::KeepTheRootAway));
        }
        What::Rotate(rotate) => rotate,
    };
    let step = match (part, finish) {
        (Some(Part::Issuer), true) => return Err(Error::FinishIssuer),
        (None | Some(Part::Issuer), false) => Step::Issuer,
        (Some(Part::Root), false) => Step::Root,
        (None | Some(Part::Root), true) => Step::Finish { overlap },
    };
    let done = match (dir, secret) {
        (Some(dir), _) => match step {
            Step::Issuer => ca::rotate_issuer(&dir, &clock),
            Step::Root => ca::rotate_root(&dir, &clock),
            Step::Finish { overlap } => ca::finish_root(&dir, overlap.unwrap_or(ca::OVERLAP), &clock),
        },
        (None, Some(name)) => secret::rotate(&name, kubeconfig, step, &clock).await?,
        (None, None) => unreachable!("one of them is required"),
    };
    Ok((output, done, step.next()))
}

impl Step {
    fn next(self) -> Next {
        match self {
            Self::Issuer => Next::UseTheIssuer,
            Self::Root => Next::Finish,
            Self::Finish { .. } => Next::DeleteTheOldRoot,
        }
    }
}

impl Next {
    fn sentence(self, standing: &Standing) -> String {
        let rotate = |what| standing.keeping.rotate(what);
        match (self, &standing.keeping) {
            (Self::KeepTheRootAway, keeping) => {
                let root = ca::Place { keeping: keeping.clone(), name: ca::Part::Root.file() };
                format!("keep {root} elsewhere, if you can: it is needed to rotate only")
            }
            (Self::UseTheIssuer, _) if is_bound_by_its_root(standing) => {
                format!("the issuer ends with its root; rotate that too: {}", rotate("root"))
            }
            (Self::UseTheIssuer, Keeping::Directory(_)) => {
                "nothing, where agents share this directory; else copy issuer.pem to theirs".to_owned()
            }
            (Self::UseTheIssuer, _) => "nothing: controllers sign by it within seconds".to_owned(),
            (Self::Finish, Keeping::Directory(_)) => format!(
                "when the old certificates have ended, in {} or MeshConfig's certificates.ttl: {}",
                units::span(ca::OVERLAP),
                rotate("root --finish")
            ),
            (Self::Finish, _) => format!(
                "nothing: controllers finish it after 90 days; once the old certificates have ended, in {} or \
                 MeshConfig's certificates.ttl, you may, too: {}",
                units::span(ca::OVERLAP),
                rotate("root --finish")
            ),
            (Self::DeleteTheOldRoot, Keeping::Directory(_)) => {
                "delete every copy of the old root.pem".to_owned()
            }
            (Self::DeleteTheOldRoot, _) => "nothing: agents know it within a minute".to_owned(),
        }
    }
}

fn is_bound_by_its_root(standing: &Standing) -> bool {
    standing.roots.last().is_some_and(|root| root.not_after <= standing.issuer.not_after)
}

/// How the authority stands.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(skip_serializing_if = "Option::is_none")]
    directory: Option<PathBuf>,
    /// `namespace/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    trust_domain: String,
    issuer: SignerView,
    /// Those that are trusted, the oldest first.
    roots: Vec<SignerView>,
    next: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SignerView {
    name: String,
    serial: String,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl Answer {
    fn of(standing: &Standing, next: String) -> Self {
        let (directory, secret) = match &standing.keeping {
            Keeping::Directory(dir) => (Some(dir.clone()), None),
            Keeping::Secret(name) | Keeping::Brought(name) => (None, Some(name.to_string())),
        };
        Self {
            directory,
            secret,
            trust_domain: standing.trust_domain.to_string(),
            issuer: SignerView::of(&standing.issuer),
            roots: standing.roots.iter().map(SignerView::of).collect(),
            next,
        }
    }
}

impl SignerView {
    fn of(signer: &Signer) -> Self {
        let at = |time| Timestamp::try_from(time).unwrap_or_default();
        Self {
            name: signer.name.clone(),
            serial: signer.serial.clone(),
            not_before: at(signer.not_before),
            not_after: at(signer.not_after),
        }
    }

    /// `weft issuer 1a2b3c4d, until 2027-11-26 (365d)`.
    fn line(&self, now: SystemTime, zone: &TimeZone) -> String {
        let left = SystemTime::from(self.not_after).duration_since(now).unwrap_or_default();
        let end = self.not_after.to_zoned(zone.clone()).strftime("%F");
        format!("{}, until {end} ({})", self.name, units::span(left))
    }
}

fn page(answer: &Answer, now: SystemTime, zone: &TimeZone) -> String {
    let directory = answer.directory.as_ref().map(|dir| ("Directory", dir.display().to_string()));
    let secret = answer.secret.clone().map(|name| ("Secret", name));
    let mut lines: Vec<_> = directory.into_iter().chain(secret).collect();
    lines.extend([("Trust domain", answer.trust_domain.clone()), ("Issuer", answer.issuer.line(now, zone))]);
    lines.extend(answer.roots.iter().map(|root| ("Trusted root", root.line(now, zone))));
    lines.push(("Next", answer.next.clone()));
    fields(&lines)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn signer(name: &str, days: u64) -> Signer {
        let not_after = SystemTime::UNIX_EPOCH + Duration::from_hours(24 * days);
        Signer { name: name.into(), serial: "0A".into(), not_before: SystemTime::UNIX_EPOCH, not_after }
    }

    #[test]
    fn an_issuer_that_its_root_cuts_short_says_so() {
        let mut standing = Standing {
            keeping: Keeping::Directory("/etc/weft/ca".into()),
            trust_domain: Arc::from("cluster.local"),
            roots: vec![signer("weft root 0badcafe", 100)],
            issuer: signer("weft issuer 77aa01bc", 100),
        };
        let next = Next::UseTheIssuer.sentence(&standing);
        assert!(next.ends_with("weft ca rotate --dir /etc/weft/ca root"), "{next}");
        standing.issuer = signer("weft issuer 77aa01bc", 90);
        assert!(Next::UseTheIssuer.sentence(&standing).starts_with("nothing"));
    }

    #[test]
    fn a_rotation_shows_both_roots_and_the_next_step() {
        let standing = Standing {
            keeping: Keeping::Directory("/etc/weft/ca".into()),
            trust_domain: Arc::from("cluster.local"),
            roots: vec![signer("weft root 0badcafe", 100), signer("weft root 1a2b3c4d", 3650)],
            issuer: signer("weft issuer 77aa01bc", 365),
        };
        let answer = Answer::of(&standing, "finish".to_owned());
        let expected = "\
Directory:     /etc/weft/ca
Trust domain:  cluster.local
Issuer:        weft issuer 77aa01bc, until 1971-01-01 (365d)
Trusted root:  weft root 0badcafe, until 1970-04-11 (100d)
Trusted root:  weft root 1a2b3c4d, until 1979-12-30 (3650d)
Next:          finish
";
        assert_eq!(page(&answer, SystemTime::UNIX_EPOCH, &TimeZone::UTC), expected);
        let json = serde_json::to_value(&answer).unwrap();
        assert_eq!(json["trustDomain"], "cluster.local");
        assert_eq!(json["roots"][1]["notAfter"], "1979-12-30T00:00:00Z");
    }
}
