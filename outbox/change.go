package outbox

import (
	"context"
	"errors"
	"time"

	"github.com/graphretry/graphretry"
)

// change alters a record, whatever else happens to it meanwhile: where somebody
// is faster, alter is put to what they have made of it. alter reports whether
// there is anything to change. It returns the record as it is in the end.
//
// Everything that a change brings with it happens here. A message that becomes
// unknown is flagged before, so that Unknown finds it. One whose generation has
// grown is published after. In between it is flagged, so that a sweep publishes
// it if this process dies.
func (o *Outbox) change(ctx context.Context, current stored, alter func(*record) bool) (stored, error) {
	for {
		next := current
		next.record = current.clone()
		if !alter(&next.record) {
			return current, nil
		}
		next.Changed = o.now()
		anew := next.Generation > current.Generation
		if anew || next.State == StateUnknown {
			if err := o.store.setFlag(ctx, next.key); err != nil {
				return current, err
			}
		}
		saved, err := o.store.save(ctx, next)
		switch {
		case errors.Is(err, errConflict):
			if current, err = o.store.reload(ctx, current); err != nil {
				return current, err
			}
		case err != nil:
			return current, err
		case anew:
			return saved, o.store.publish(ctx, saved.entry())
		default:
			return saved, nil
		}
	}
}

// retry turns a message that was not sent, or that Meta could not deliver, to
// queued or to failed, as the policy says.
func (o *Outbox) retry(r *record, e *graphretry.Error) {
	own := o.policy.Decide(e, r.Retries[e.Code])
	if !own.Retry {
		r.toFailed(e, own.Reason.String())
		return
	}
	all := o.schedule.Decide(&graphretry.Error{Code: anyCode, RetryAfter: e.RetryAfter}, r.retries())
	wait := max(own.Wait, all.Wait)
	if e.Code == graphretry.CodePairRateLimitHit {
		wait = own.Wait // its own schedule, in place of the common one
	}
	o.retryAfter(r, e.Code, e, own.Reason.String(), all, wait)
}

// undelivered is retry for what Meta reported by webhook, where it may not say
// why.
func (o *Outbox) undelivered(r *record, e *graphretry.Error) {
	if e == nil {
		r.toFailed(nil, "Meta says that it failed, and not why")
		return
	}
	o.retry(r, e)
}

// retryUnsent turns a message whose connection could not be made to queued.
// That has no Graph error to ask the policy about, and is worth trying again for
// as long as the message is not too old.
func (o *Outbox) retryUnsent(r *record, reason string) {
	all := o.schedule.Decide(&graphretry.Error{Code: anyCode}, r.retries())
	o.retryAfter(r, 0, nil, reason, all, all.Wait)
}

func (o *Outbox) retryAfter(r *record, code graphretry.Code, e *graphretry.Error, reason string, all graphretry.Decision, wait time.Duration) {
	if !all.Retry {
		r.toFailed(e, joined(all.Reason.String(), reason))
		return
	}
	next := o.now().Add(wait)
	if next.After(o.expiry(r)) {
		r.toFailed(e, joined(reasonExpired, reason))
		return
	}
	r.toRetry(code, e, reason, next)
}

// hold turns a message whose lane is at fault back to queued. That uses up none of
// its retries.
func (o *Outbox) hold(r *record, end outcome) {
	reason := end.reason
	if end.graph != nil {
		reason = "its phone number cannot send: " + end.graph.Code.Title()
	}
	next := o.now().Add(o.laneWait(0))
	if next.After(o.expiry(r)) {
		r.toFailed(end.graph, joined(reasonExpired, reason))
		return
	}
	r.toHeld(end.graph, reason, next)
}

// laneWait returns the time to a lane's next probe, after so many: the schedule's.
func (o *Outbox) laneWait(probes int) time.Duration {
	return o.probing.Decide(&graphretry.Error{Code: anyCode}, probes).Wait
}

func joined(reason, because string) string { return reason + ", after: " + because }

// expiry is when a message is too old to be sent.
func (o *Outbox) expiry(r *record) time.Time {
	oldest := r.Queued.Add(o.maxAge)
	if !r.ExpiresAt.IsZero() && r.ExpiresAt.Before(oldest) {
		return r.ExpiresAt
	}
	return oldest
}

const reasonExpired = "older than the maximum age"
