package message

import (
	"slices"

	"github.com/graphretry/graphretry"
)

// A webhook is about one wamid. Each attempt has a wamid of its own, and all have the same
// callback data. So the record distinguishes the wamids:
//
//   - MessageID and Others are those that Meta has accepted.
//   - Refuted are those that failed, as Meta says.
//   - The wamid of the attempt that is under way, or whose end is unknown, is not known before
//     its answer. Nor are the wamids of earlier attempts that a person has taken for not sent:
//     Doubts is their number. A wamid that is in no list belongs to one of these attempts.
//     Overtook are those of them that have failed.
//
// Once a device has the message, nothing else matters.

// knows reports whether a wamid is one that Meta has accepted, or one that failed.
func (r *Record) knows(wamid string) bool {
	return wamid == r.MessageID || slices.Contains(r.Others, wamid) || slices.Contains(r.Refuted, wamid)
}

// accepted records that Meta has accepted the message under a wamid. That can be while the
// message is being sent: the webhook can come before the answer.
func (s *stepping) accepted(wamid string) bool {
	switch {
	case !s.Delivered.IsZero() || slices.Contains(s.Refuted, wamid):
		return false
	case s.State != StateSent:
		s.toSent(wamid)
	case wamid == "" || s.knows(wamid):
		return false
	case s.MessageID == "":
		s.MessageID = wamid
	default:
		s.Others = append(s.Others, wamid)
	}
	// The wamid belongs to one of the attempts whose wamid was not known.
	if s.Doubts > len(s.Overtook) || s.Token == "" {
		s.Doubts = max(0, s.Doubts-1)
	} else {
		s.Token, s.Overtook, s.Doubts = "", nil, 0
	}
	return true
}

// delivered records that a device has the message. No failure changes that.
func (s *stepping) delivered(e Event) (changed bool) {
	if s.State != StateSent {
		s.toSent(e.MessageID)
		changed = true
	}
	if s.Delivered.IsZero() {
		s.MessageID, s.Delivered, changed = e.MessageID, Moment{e.At}, true
		s.Token, s.Overtook, s.Others, s.Doubts = "", nil, nil, 0
		s.DropPayload = !s.rules.KeepPayload
		s.report(OutcomeDelivered)
	}
	if e.Kind == Read && s.Read.IsZero() {
		s.Read, changed = Moment{e.At}, true
		s.report(OutcomeRead)
	}
	return changed
}

// undelivered records that a wamid failed, as Meta says.
func (s *stepping) undelivered(e Event) bool {
	switch wamid := e.MessageID; {
	case slices.Contains(s.Refuted, wamid):
		return false
	case e.Participant != "":
		return s.missed(e)
	default:
		s.Refuted = append(s.Refuted, wamid)
	}
	other := slices.Index(s.Others, e.MessageID)
	isIt := s.State == StateSent && (s.MessageID == e.MessageID || s.MessageID == "" && s.Doubts == 0)
	switch {
	case !s.Delivered.IsZero():
		s.Graph, s.Reason = kept(e.Graph), reasonDelivered
	case other >= 0:
		s.Others = slices.Delete(s.Others, other, other+1)
	case isIt && len(s.Others) > 0:
		s.MessageID, s.Others = s.Others[0], s.Others[1:]
	case isIt && s.Token != "" && s.isOpen():
		s.MessageID, s.Graph = "", kept(e.Graph)
		s.toUnknown(reasonOpen)
	case isIt:
		s.end("")
		s.retryUndelivered(e.Graph, e)
	case s.Token == "":
		// It is the wamid of an earlier attempt, which changes nothing any more.
		s.Doubts = max(0, s.Doubts-1)
	default:
		// Until the answer has come, a message that is being sent must not be queued.
		if s.Overtook == nil {
			s.Overtook = make(map[string]*graphretry.Error)
		}
		s.Overtook[e.MessageID] = kept(e.Graph)
		if s.State != StateSent {
			s.Graph = kept(e.Graph)
		}
		if s.State == StateUnknown && !s.isOpen() {
			s.end("")
			s.retryUndelivered(e.Graph, e)
		}
	}
	return true
}

// mostParticipants bounds how many participants a record has. Meta's groups are smaller.
const mostParticipants = 1000

// missed records that one participant of a group does not get the message. The others may have
// it, so it is neither failed nor sent again, and Meta has accepted it.
func (s *stepping) missed(e Event) bool {
	if slices.Contains(s.Participants, e.Participant) || len(s.Participants) >= mostParticipants {
		return false
	}
	s.accepted(e.MessageID)
	s.Participants = append(s.Participants, e.Participant)
	s.ParticipantGraph = kept(e.Graph)
	return true
}
