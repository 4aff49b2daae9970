// Package outbox keeps WhatsApp messages in a database until they are sent. A message that is
// enqueued in a transaction is sent if and only if the transaction commits.
//
//	db, err := sqlite.Open("/var/lib/reminders/outbox.db") // or PostgreSQL: see Postgres
//	o, err := outbox.Open(ctx, outbox.SQLite(db), nil, outbox.WithAccessToken(token))
//	err = o.Enqueue(ctx, "reminder-4711", phoneNumberID, payload)
//	err = o.Run(ctx) // here, or on any number of other machines
//
// [graphretry.Policy.Next] decides what becomes of a failure, as it does for every job queue.
// A message spends its waits in the queue.
//
// # The life of a message
//
// [Outbox.Enqueue] writes the message and its place in the queue. The message is now
// [StateQueued]. A Run claims it when a worker is free and the rate allows it, writes
// [StateSending], and sends it. The answer decides what happens next:
//
//   - Meta has accepted the message: it is [StateSent]. A status of 2xx is not enough: the
//     answer names the message, or is {"success":true}, as for a read receipt.
//   - Meta answers with a Graph error, which says that the message was not sent: it is
//     StateQueued again until the policy's wait has passed, or it is [StateFailed].
//   - No connection was made, so nothing was sent: the message is StateQueued again.
//   - The answer is about the phone number, such as an expired token or a proxy's 407, or it is
//     about a limit: the message is StateQueued again, until it is too old.
//   - In every other case, such as a connection that broke, a timeout, or a gateway's 502, the
//     message may have been sent: it is [StateUnknown], and is not sent again.
//
// # In your transaction
//
// [Outbox.EnqueueTx] enqueues in a transaction of yours. It is one INSERT of id,
// phone_number_id and payload into NAME_message. These columns are a contract: any program may
// insert such a row, in any language. It may also set label, urgent, not_before and expires_at;
// the times are in microseconds since 1970. All other columns belong to the outbox.
//
// A row that was committed is StateQueued at once. Within half a second, or within some 5 s if the
// database answers slowly, a Run checks it as Enqueue does. A row that Enqueue would refuse becomes
// StateFailed, and its Reason says why. Transactions that overlap have no order between them.
//
// # Nothing is sent twice
//
// Right before each attempt a Run writes StateSending, beneath the transport and its outage
// gate. The write succeeds only if this Run still has the message. It is on the database's disk
// before anything is sent. If the database does not confirm it within 15 s, the Run takes it
// back and sends nothing. How the attempt ended is written only if the message still waits for
// this attempt. The Run retries that for as long as it takes.
//
// Each [Outbox.Run] counts up a heartbeat in its row every 5 s. If the heartbeat does not move
// for 30 s, by the clock of another Run, that Run takes the first one for dead. Messages that the
// dead Run had claimed go back to the queue, and those that it was sending become unknown. If it
// was only frozen, it finds its claims gone and sends none of them. An answer that it gets late
// still settles a message that is unknown.
//
// This relies on Meta: a Graph error of a retried code means that the message was not sent.
// Meta's documentation says so, and does not guarantee it. If a message that arrives twice is
// worse for you than one that never arrives, switch these retries off with
// [graphretry.WithoutRetryOn] in [WithTransportOptions].
//
// It also relies on the database. A database that forgets what it has confirmed sends those
// messages again: for example a replica that lags and takes over. After a restore see
// [Outbox.ParkAll].
//
// # Phone numbers
//
// Each phone number has a rate that all machines share ([WithRate]), and a share of the workers.
//
// Some attempts end in a way that says nothing about the message: with an expired token, for
// example, or ambiguously, as when the connection broke. After 3 such ends in a row the number is
// held on all machines. Its messages stay in the queue, and one at a time goes out as a probe,
// after 5, 10, 20 s and so on, up to 3 minutes. Any other answer ends the hold. So an expired
// token fails no message. A gateway that is down leaves unknown only the messages that were under
// way, and one for each probe. If every number is held for an ambiguous reason, one probe serves
// all of them.
//
// A message can also get such an answer because of its own content. So a probe is the message
// whose last refusal is the oldest. If a message is refused, another message of its number is
// accepted, and the first is refused again, then that refusal says nothing about the number. After
// 3 such refusals the message fails. An expired token never counts.
//
// # Order
//
// Messages of a number go out in the order of their [NotBefore], or else of their enqueueing.
// [Urgent] messages go first, and have one worker of each Run to themselves. Calls of Enqueue
// that overlap have no order between them. With [WithRecipientOrder] a recipient gets one
// message after the other.
//
// # Outcomes
//
// [WithOutcome] calls a function at least once for each outcome of each message, also after a
// crash: the outcome is written together with the change. [WithObserver] calls a function once
// for each event in this process, when it happens. It is for metrics, such as those of module
// github.com/graphretry/graphretry/outbox/oteloutbox.
//
// # Unknown messages
//
// [Outbox.HandleWebhook] settles unknown messages, since Meta's status webhooks carry the id of
// the message. Each attempt has its own wamid. A device that has the message beats every failure,
// and the failure of one attempt says nothing about another.
//
// [Outbox.Unknown] lists the messages that no webhook has settled. Meta has never accepted most
// of these. A person decides with [Outbox.Resend] and [Outbox.Drop]. [Outbox.ResendAll],
// [Outbox.DropAll], [Outbox.ParkAll] and [Outbox.DeleteAll] act on all messages of a [Filter],
// such as those of a [Label]. [Outbox.ResendListed] resends only what a person has seen.
//
// # The database
//
// Waits and ages go by the database's clock.
//
// Failures that pass, such as a restart of the server, a deadlock or a full disk, are retried,
// and logged at the third failure in a row. Every other failure is returned in the database's
// words. A call whose context has no deadline fails after 15 s. EnqueueTx has no such limit,
// since the transaction is yours. [Outbox.Health] is for a probe, and [Outbox.Stats] for alerts.
//
// The payload is deleted when a webhook says that the message was delivered. The rest is deleted
// [WithRetention] after its last change. [Outbox.Delete] deletes both at once. No token is ever
// written. A program works with tables that are one version newer than its own.
package outbox
