//! DNS messages: a query's bytes to an answer's bytes, for what is ours. Pure.

use std::net::Ipv4Addr;

use hickory_proto::ProtoError;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, PTR, SRV};
use hickory_proto::rr::{DNSClass, Name, RData, Record as Resource, RecordType};

use crate::names::{Answer, Kind, Names, Question, Record};

/// Seconds. Long enough for one burst, short enough that a dead instance is soon forgotten.
const TTL: u32 = 1;
/// Datagrams of this size pass every network unfragmented.
const LARGEST: u16 = 1232;
/// Without EDNS no client takes more.
const SMALLEST: u16 = 512;
/// As many address records as fit the smallest datagram behind a long name. Old musl does not
/// come back by TCP, so these are a whole answer, not a truncated one.
const ADDRESSES_WITHOUT_EDNS: usize = 24;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Datagram,
    Stream,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Bytes(Vec<u8>),
    /// To be asked upstream, as it stands.
    Elsewhere,
    /// No query; whoever answers answers can be made to talk to himself.
    Silence,
}

pub(crate) fn reply(
    names: &Names,
    asker: Ipv4Addr,
    bytes: &[u8],
    transport: Transport,
    seed: u64,
) -> Reply {
    let Ok(message) = Message::from_vec(bytes) else {
        return Reply::Silence;
    };
    if message.metadata.message_type != MessageType::Query {
        return Reply::Silence;
    }
    let [query] = message.queries.as_slice() else {
        return encoded(&refusal(&message, ResponseCode::FormErr));
    };
    if message.metadata.op_code != OpCode::Query {
        return encoded(&refusal(&message, ResponseCode::NotImp));
    }
    if query.query_class() != DNSClass::IN {
        return Reply::Elsewhere;
    }
    let text = query.name().to_lowercase().to_ascii();
    let question = Question {
        name: text.trim_end_matches('.'),
        kind: kind(query.query_type()),
    };
    let answer = names.answer(asker, &question, seed);
    let mut response = refusal(&message, ResponseCode::NoError);
    response.metadata.authoritative = true;
    match answer {
        Answer::Elsewhere => return Reply::Elsewhere,
        Answer::NoSuchName => response.metadata.response_code = ResponseCode::NXDomain,
        Answer::Records(records) => add(&mut response, query, records),
    }
    let size = match (transport, &message.edns) {
        (Transport::Stream, _) => u16::MAX,
        (_, Some(edns)) => edns.max_payload().clamp(SMALLEST, LARGEST),
        (_, None) => SMALLEST,
    };
    if size == SMALLEST && message.edns.is_none() && question.kind == Kind::Address {
        response.answers.truncate(ADDRESSES_WITHOUT_EDNS);
    }
    fitting(response, usize::from(size)).map_or(Reply::Silence, Reply::Bytes)
}

/// The answer when nobody upstream gave one; `None` when the query cannot even be read.
pub(crate) fn failure(bytes: &[u8]) -> Option<Vec<u8>> {
    let message = Message::from_vec(bytes).ok()?;
    refusal(&message, ResponseCode::ServFail).to_vec().ok()
}

/// A response to `message` without records.
fn refusal(message: &Message, code: ResponseCode) -> Message {
    let mut response = Message::response(message.metadata.id, message.metadata.op_code);
    response.metadata.recursion_desired = message.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    response.metadata.response_code = code;
    response.add_queries(message.queries.iter().cloned());
    if message.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(LARGEST);
        response.set_edns(edns);
    }
    response
}

fn kind(kind: RecordType) -> Kind {
    match kind {
        RecordType::A => Kind::Address,
        RecordType::PTR => Kind::Pointer,
        RecordType::SRV => Kind::Service,
        _ => Kind::Other,
    }
}

fn add(response: &mut Message, query: &Query, records: Vec<Record>) {
    let resource = |data| Resource::from_rdata(query.name().clone(), TTL, data);
    for record in records {
        match record {
            Record::Address(address) => {
                response.add_answer(resource(RData::A(A(address))));
            }
            Record::Pointer(name) => {
                if let Ok(name) = absolute(&name) {
                    response.add_answer(resource(RData::PTR(PTR(name))));
                }
            }
            Record::Service {
                port,
                target,
                address,
            } => {
                if let Ok(target) = absolute(&target) {
                    let service = SRV::new(0, 1, port, target.clone());
                    response.add_answer(resource(RData::SRV(service)));
                    let address = Resource::from_rdata(target, TTL, RData::A(A(address)));
                    response.add_additional(address);
                }
            }
        }
    }
}

fn absolute(name: &str) -> Result<Name, ProtoError> {
    let mut name = Name::from_ascii(name)?;
    name.set_fqdn(true);
    Ok(name)
}

fn encoded(message: &Message) -> Reply {
    message.to_vec().map_or(Reply::Silence, Reply::Bytes)
}

/// The message in at most `size` bytes: whole, else without its additional records, else with as
/// many answers as fit and the word that there are more.
fn fitting(mut message: Message, size: usize) -> Option<Vec<u8>> {
    let whole = message.to_vec().ok()?;
    if whole.len() <= size {
        return Some(whole);
    }
    message.additionals.clear();
    let bare = message.to_vec().ok()?;
    if bare.len() <= size {
        return Some(bare);
    }
    message.metadata.truncation = true;
    let answers = std::mem::take(&mut message.answers);
    let mut attempt = |count: usize| {
        message.answers = answers[..count].to_vec();
        message.to_vec().ok().filter(|bytes| bytes.len() <= size)
    };
    let (mut fits, mut too_many) = (attempt(0)?, answers.len());
    let mut low = 0;
    while low + 1 < too_many {
        let middle = usize::midpoint(low, too_many);
        match attempt(middle) {
            Some(bytes) => (fits, low) = (bytes, middle),
            None => too_many = middle,
        }
    }
    Some(fits)
}

#[cfg(test)]
mod tests {
    use model::{AppId, Directory, Entry, InstanceId, Interface, NetworkKind, NodeId};

    use super::*;
    use crate::subnet::Subnet;

    const ASKER: Ipv4Addr = Ipv4Addr::new(10, 32, 0, 9);

    fn many(instances: u64) -> Names {
        let overlay = Ipv4Addr::new(10, 32, 0, 0);
        let entry = |n: u64| Entry {
            app: AppId::parse("/web").expect("a valid id"),
            node: NodeId(0),
            interfaces: vec![Interface {
                network: NetworkKind::Overlay,
                address: Ipv4Addr::from(u32::from(overlay) + 256 + n as u32),
                prefix: 12,
            }],
            hostname: None,
            running: true,
            healthy: true,
            ports: Vec::new(),
        };
        let directory = Directory {
            instances: (0..instances)
                .map(|n| (InstanceId { birth: n, slot: 0 }, entry(n)))
                .collect(),
            ..Directory::default()
        };
        Names::of(&directory, Subnet::new(overlay, 12))
    }

    fn query(name: &str, kind: RecordType, payload: Option<u16>) -> Vec<u8> {
        let mut message = Message::query();
        message.metadata.id = 4711;
        message.add_query(Query::query(absolute(name).expect("a name"), kind));
        if let Some(payload) = payload {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            message.set_edns(edns);
        }
        message.to_vec().expect("a query encodes")
    }

    fn ask(names: &Names, query: &[u8], transport: Transport) -> (Message, usize) {
        match reply(names, ASKER, query, transport, 1) {
            Reply::Bytes(bytes) => (Message::from_vec(&bytes).expect("readable"), bytes.len()),
            other => panic!("no answer but {other:?}"),
        }
    }

    #[test]
    fn a_large_answer_is_cut_where_it_must_be_and_whole_by_stream() {
        let names = many(100);
        let edns = query("web.tandem.local", RecordType::A, Some(512));
        let (cut, size) = ask(&names, &edns, Transport::Datagram);
        assert!(cut.metadata.truncation && size <= 512 && cut.answers.len() > 20);
        assert!(cut.edns.is_some());
        let (whole, _) = ask(&names, &edns, Transport::Stream);
        assert!(!whole.metadata.truncation && whole.answers.len() == 100);
        let huge = query("web.tandem.local", RecordType::A, Some(9000));
        let (clamped, size) = ask(&names, &huge, Transport::Datagram);
        assert!(clamped.metadata.truncation && size <= 1232);
        let plain = query("web.tandem.local", RecordType::A, None);
        let (short, size) = ask(&names, &plain, Transport::Datagram);
        assert!(!short.metadata.truncation && size <= 512 && short.answers.len() == 24);
    }

    #[test]
    fn the_asked_name_comes_back_as_written_and_lives_a_second() {
        let (answer, _) = ask(
            &many(1),
            &query("WeB.tandem.LOCAL", RecordType::A, None),
            Transport::Datagram,
        );
        assert_eq!(answer.metadata.id, 4711);
        let record = answer.answers.first().expect("one answer");
        assert_eq!(
            (record.name.to_ascii().as_str(), record.ttl),
            ("WeB.tandem.LOCAL.", 1)
        );
    }

    #[test]
    fn no_data_differs_from_no_name() {
        let code = |name, kind| {
            let (answer, _) = ask(&many(1), &query(name, kind, None), Transport::Datagram);
            (answer.metadata.response_code, answer.answers.len())
        };
        assert_eq!(code("web", RecordType::AAAA), (ResponseCode::NoError, 0));
        assert_eq!(code("nobody", RecordType::A), (ResponseCode::NXDomain, 0));
    }

    #[test]
    fn rubbish_and_answers_are_met_with_silence() {
        let names = many(1);
        for bytes in [&b""[..], b"\x00\x01", &[0xff; 40]] {
            assert_eq!(
                reply(&names, ASKER, bytes, Transport::Datagram, 0),
                Reply::Silence
            );
        }
        let mut answer = query("web", RecordType::A, None);
        answer[2] |= 0x80;
        assert_eq!(
            reply(&names, ASKER, &answer, Transport::Datagram, 0),
            Reply::Silence
        );
    }

    #[test]
    fn a_failure_says_so_to_the_one_who_asked() {
        let bytes = failure(&query("example.com", RecordType::A, None)).expect("a failure");
        let message = Message::from_vec(&bytes).expect("readable");
        assert_eq!(message.metadata.id, 4711);
        assert_eq!(message.metadata.response_code, ResponseCode::ServFail);
    }
}
