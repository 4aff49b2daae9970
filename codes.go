package graphretry

import (
	"slices"
	"sort"
)

// Code is the code of a Graph API error: the field "code" of the error object
// in an answer, or of an entry of "errors" in a webhook.
//
// The constants name the codes that a program is most likely to ask for. Every code
// Meta documents for the WhatsApp Business Platform, and the codes of the Graph API
// under it, have a [Code.Title], a [Code.Class] and a [Code.Advice]; see
// https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes.
// Any other code has no title, and [ClassUnknown].
type Code int

// The codes that are retried by default, and others whose names suggest it and that
// are not.
const (
	// CodeAPIUnknown is a bad request as often as a fault at Meta, and is not
	// retried by default.
	CodeAPIUnknown Code = 1
	// CodeAPIService is an API that is down or overloaded for a while. It is
	// retried by default.
	CodeAPIService Code = 2
	// CodePhoneNumberDeleted is a request in the name of a business phone number
	// that was deleted. It is never retried.
	CodePhoneNumberDeleted Code = 33
	// CodeInvalidParameter is a parameter that is misspelled, not supported or out
	// of bounds; the subcode may say more. It is never retried.
	CodeInvalidParameter Code = 100
	// CodeUserExperiment is a marketing message withheld because the recipient is
	// part of an experiment of Meta's. It is never retried: Meta counts repeated
	// sends against the business.
	CodeUserExperiment Code = 130472
	// CodeSomethingWentWrong is a message that failed for a reason Meta does not
	// know. It is retried once by default, as the next try often succeeds.
	CodeSomethingWentWrong Code = 131000
	// CodeAccessDenied is a permission that was not given or was taken away. It is
	// not retried by default.
	CodeAccessDenied Code = 131005
	// CodeParameterMissing is a request without a parameter that it needs. It is
	// never retried.
	CodeParameterMissing Code = 131008
	// CodeParameterInvalid is a parameter whose value is not one of those allowed.
	// It is never retried.
	CodeParameterInvalid Code = 131009
	// CodeServiceUnavailable is a part of the Cloud API that is down for a while.
	// It is retried by default.
	CodeServiceUnavailable Code = 131016
	// CodePaymentsTermsNotAccepted is a payment message of an account that has yet
	// to accept the terms of WhatsApp Payments. It is not retried by default.
	CodePaymentsTermsNotAccepted Code = 134011
)

// The throttling codes that [WithThrottleRetries] retries. They are all of
// [ClassThrottle], but not all codes of that class are here: a block that lasts for
// days, such as 133016, is not worth a retry.
const (
	// CodeAPITooManyCalls is an app that has used up its calls.
	CodeAPITooManyCalls Code = 4
	// CodeAPIUserTooManyCalls is a user, the token's, who has used up their calls.
	CodeAPIUserTooManyCalls Code = 17
	// CodeApplicationLimitReached is an app at a limit that passes with time.
	CodeApplicationLimitReached Code = 341
	// CodeCustomRateLimit is an endpoint at a limit of its own.
	CodeCustomRateLimit Code = 613
	// CodeRateLimitIssues is a WhatsApp Business account at its rate limit.
	CodeRateLimitIssues Code = 80007
	// CodeBusinessAccountTooManyCalls is a WhatsApp Business account that has used
	// up its calls to the Business Management API.
	CodeBusinessAccountTooManyCalls Code = 80008
	// CodeRateLimitHit is a phone number at its limit of messages a second.
	CodeRateLimitHit Code = 130429
	// CodePairRateLimitHit is too many messages from one number to one recipient;
	// messages to others still pass.
	CodePairRateLimitHit Code = 131056
	// CodeRegistrationWaitAFewMinutes is a phone number registered again before
	// Meta has finished deleting it, which takes about 5 minutes.
	CodeRegistrationWaitAFewMinutes Code = 133015
	// CodeTemplateStillSyncing is a template too new for the Marketing Messages
	// API; its synchronisation takes up to 10 minutes.
	CodeTemplateStillSyncing Code = 134101
)

// throttleRetries are the codes of [WithThrottleRetries].
var throttleRetries = []Code{
	CodeAPITooManyCalls, CodeAPIUserTooManyCalls, CodeApplicationLimitReached, CodeCustomRateLimit,
	CodeRateLimitIssues, CodeBusinessAccountTooManyCalls, CodeRateLimitHit, CodePairRateLimitHit,
	CodeRegistrationWaitAFewMinutes, CodeTemplateStillSyncing,
}

// Class is the kind of a failure, according to Meta's description of its code.
//
// A class says what a code means, not whether it is retried. By default fewer codes
// are retried than the classes suggest: of [ClassTransient] only 2 and 131016, and
// of [ClassRetryOnce] only 131000, once. The maintenance of one account, 131057, is
// transient too, and is retried only where an option such as [WithRetryOn] says so.
type Class int

const (
	// ClassUnknown is a failure about which Meta says too little, and the class of
	// every code that is not in the catalogue. It is the zero Class.
	ClassUnknown Class = iota
	// ClassTransient is a fault or a maintenance at Meta that passes by itself: the
	// same request succeeds later.
	ClassTransient
	// ClassRetryOnce is a fault that often does not occur again. If it does, more
	// retries do not help.
	ClassRetryOnce
	// ClassThrottle is a limit on calls or messages that passes with time, after
	// seconds or after days.
	ClassThrottle
	// ClassParameter is a request that is wrong, or that does not fit the present
	// state: the same request gets the same answer. No option retries it.
	ClassParameter
	// ClassPermission is a missing right, setting or consent that a person must
	// give.
	ClassPermission
	// ClassPolicy is a restriction that Meta has put on the business for its
	// conduct, its quality or its payments. A retry can make it worse.
	ClassPolicy
	// ClassRecipient is a person who cannot get this message, or does not want it.
	ClassRecipient
	// ClassExperiment is a message withheld for an experiment of Meta's. No option
	// retries it.
	ClassExperiment
)

var classNames = [...]string{
	ClassUnknown:    "unknown",
	ClassTransient:  "transient",
	ClassRetryOnce:  "retry once",
	ClassThrottle:   "throttle",
	ClassParameter:  "parameter",
	ClassPermission: "permission",
	ClassPolicy:     "policy",
	ClassRecipient:  "recipient",
	ClassExperiment: "experiment",
}

// String returns the class in lower-case words, such as "retry once", or "Class(42)"
// for a number that is not a class.
func (c Class) String() string { return enumText("Class", classNames[:], c) }

// Class returns the kind of failure that the code stands for, or [ClassUnknown] if
// the code is not in the catalogue.
func (c Code) Class() Class {
	row, _ := lookUp(c)
	return row.class
}

// Title returns Meta's name for the code, in English, without the number: for 131047
// it is "Re-engagement message". Where Meta gives the code no name, it is a short
// description. It is empty if, and only if, the code is not in the catalogue.
func (c Code) Title() string {
	row, _ := lookUp(c)
	return row.title
}

// Advice returns what a person on call should do about the code, in one sentence of
// at most 110 characters. The words "details", "error_user_title" and the like in it
// are fields of the error object. For a code that is not in the catalogue the advice
// is general.
func (c Code) Advice() string {
	row, ok := lookUp(c)
	if !ok {
		return uncataloguedAdvice
	}
	return row.advice
}

// AboutSender reports whether every message of the sender would get the code, whatever
// it says and whoever it is for, until somebody mends that or a restriction ends. The
// sender is the token, the app, the account or the phone number. These are the codes:
//
//   - 0, 3, 10, 102, 104, 190, 200 to 299, 412 and 131005: the token is missing, expired
//     or revoked, or lacks a permission. Of these, 210, 220, 221 and 230 are not meant:
//     Meta's reference names them for one user, album, photo or recipient.
//   - 368, 131031 and 131064: the account is restricted.
//   - 131042: the account cannot pay.
//   - 131037, 131045, 131048, 133007 and 133010: the phone number has no approved display
//     name, is not registered, or is restricted.
//
// What is about one message, person, group or template is not among them, nor is what is
// about one feature, such as payment messages (134011), calls (138000, 138006, 131044),
// groups (131215) or template insights (200007). Limits on the rate (130429) and
// maintenance (131057) are not either, since they pass by themselves: see [ClassThrottle]
// and [ClassTransient].
//
// The list follows the texts of
// https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes.
func (c Code) AboutSender() bool {
	return slices.ContainsFunc(senderCodes, func(r codeRange) bool { return r.first <= c && c <= r.last })
}

// codeRange is the codes from first to last, both included.
type codeRange struct{ first, last Code }

// senderCodes are the codes that every message of a sender would get.
var senderCodes = []codeRange{
	{0, 0}, {3, 3}, {10, 10}, {102, 102}, {104, 104}, {190, 190},
	{200, 209}, {211, 219}, {222, 229}, {231, 299}, // without those of one user, album, photo or recipient
	{368, 368}, {412, 412},
	{131005, 131005}, {131031, 131031}, {131037, 131037}, {131042, 131042}, {131045, 131045}, {131048, 131048}, {131064, 131064},
	{133007, 133007}, {133010, 133010},
}

const uncataloguedAdvice = "Read message and details, then look the number up at Meta: this version of graphretry does not know it."

type catalogueRow struct {
	first, last Code // the codes of the row, both included
	class       Class
	title       string
	advice      string
}

// lookUp finds a code's row, by binary search: the rows are sorted and disjoint.
func lookUp(c Code) (catalogueRow, bool) {
	i := sort.Search(len(catalogue), func(i int) bool { return catalogue[i].last >= c })
	if i < len(catalogue) && catalogue[i].first <= c {
		return catalogue[i], true
	}
	return catalogueRow{}, false
}

// catalogue has every known code, in ascending order. It is one literal of
// constants, so that the linker lays it out and no code runs at start.
//
// A range of codes is a row too. Where a code inside a range has a row of its
// own, the range is split into rows around it, and no rule of precedence is
// needed: 200 stands before 201 to 299.
//
// To add a code, add its row in the place its number gives it, and its line with
// Meta's page as the source to graphtest/codes.csv. The tests name the row that
// is out of place, and what is wrong with a title or advice. Advice tells a person
// what to do, not what happened, in words of this package's own.
var catalogue = []catalogueRow{
	// The Graph API, whatever the product.
	{0, 0, ClassPermission, "AuthException", "Get a new access token: this one expired, was revoked, or its user has removed the app."},
	{1, 1, ClassRetryOnce, "API Unknown", "Check Meta's status page; if nothing is down, compare the request with the endpoint's reference."},
	{2, 2, ClassTransient, "API Service", "Watch Meta's status page: the API is down or overloaded; add no retries of your own on top."},
	{3, 3, ClassPermission, "API Method", "Open the token in Meta's access token debugger: the app lacks a capability this endpoint needs."},
	{4, 4, ClassThrottle, "API Too Many Calls", "Slow down everything that calls with this app: it has used up its Graph calls for now."},
	{9, 9, ClassThrottle, "Rate limit reached", "Space these calls out: the same action was repeated more often than Meta allows."},
	{10, 10, ClassPermission, "Permission Denied", "Grant the app the permission this endpoint needs: it was never given or has been taken away."},
	{17, 17, ClassThrottle, "API User Too Many Calls", "Call less often with this token: the user it belongs to has used up its calls for now."},
	{32, 32, ClassThrottle, "Page request limit reached", "Call less often for this Page: the calls made with its token have used up the Page's allowance."},
	{33, 33, ClassParameter, "Parameter value is not valid", "Correct the phone number ID in the request's path: the business phone number behind it was deleted."},
	{100, 100, ClassParameter, "Invalid parameter", "Fix the parameter that details names; with subcode 33, check that the ID exists and the token may see it."},
	{102, 102, ClassPermission, "API Session", "Log in again and use the new token: the session behind this one has ended."},
	{104, 104, ClassPermission, "An access token is required to request this resource", "Send an access token with the request: none arrived; see whether a proxy drops the Authorization header."},
	{190, 190, ClassPermission, "Access token has expired", "Replace the expired or revoked token; a system user's permanent token keeps it from happening again."},
	{192, 192, ClassParameter, "Invalid phone number", "Correct the phone number in the request, such as that of a template's call button, with its country code."},
	{200, 200, ClassPermission, "No access token was provided", "Set the Authorization header: this call reached Meta without any access token."},
	{201, 299, ClassPermission, "API Permission", "Give the app's token the permission that the message names, then issue the token anew."},
	{300, 300, ClassUnknown, "Edit failure", "Compare the request with the endpoint's reference: Meta did not make the change, and does not say why."},
	{341, 341, ClassThrottle, "Application limit reached", "Pause this app's calls until its limit resets, then resume slowly."},
	{368, 368, ClassPolicy, "Temporarily blocked for policies violations", "Stop sending: the account is restricted for a policy violation; ask for a review in Business Support Home."},
	{412, 412, ClassPermission, "App not installed", "Have the user install the app again, and use the token from that login."},
	{506, 506, ClassParameter, "Duplicate Post", "Change the content or drop the call: the same post was published just before."},
	{613, 613, ClassThrottle, "Custom rate limit / Fetch Call Permission API limit hit", "Call this endpoint less often: it has a limit of its own; cache call permissions instead of polling."},
	{803, 803, ClassParameter, "Object not found", "Correct the ID or alias in the request: no such object exists, or this token cannot see it."},
	{2200, 2200, ClassParameter, "subscription validation failed", "Have the webhook's endpoint answer Meta's verification request, then subscribe again."},
	{2201, 2201, ClassParameter, "received an invalid hub.challenge while validating endpoint", "Have the webhook's endpoint answer a verification request with its hub.challenge and nothing else."},
	{2500, 2500, ClassParameter, "Unknown path components", "Correct the URL: Graph does not know a part of its path; check the version, the ID and the edge."},

	// Limits by business use case: 80000 to 80014, with the two of WhatsApp in the middle.
	{80000, 80006, ClassThrottle, "Business-use-case limits of other products", "Slow down calls to this other Meta product; X-Business-Use-Case-Usage says when it is free again."},
	{80007, 80007, ClassThrottle, "Rate limit issues", "Make fewer calls for this WhatsApp Business account; X-Business-Use-Case-Usage says when to go on."},
	{80008, 80008, ClassThrottle, "Too many calls to this WhatsApp Business account", "Poll templates and numbers less: this WhatsApp Business account's management calls are spent for the hour."},
	{80009, 80014, ClassThrottle, "Business-use-case limits of other products", "Slow down calls to this other Meta product; X-Business-Use-Case-Usage says when it is free again."},

	// WhatsApp messages, accounts and groups.
	{130403, 130403, ClassRecipient, "Business has blocked the end user", "Unblock this person with the Block Users API if you mean to write to them; a retry cannot help."},
	{130429, 130429, ClassThrottle, "Rate limit hit", "Send more slowly from this number (80 messages a second by default), or give WithThrottleRetries."},
	{130470, 130470, ClassRecipient, "Re-engagement message", "Send an approved template: more than 24 hours have passed since the person wrote (now code 131047)."},
	{130472, 130472, ClassExperiment, "User's number is part of an experiment", "Do not resend: Meta withholds marketing from this number for an experiment; use another channel."},
	{130497, 130497, ClassPolicy, "Business account is restricted from messaging users in this country", "Stop sending to this country: Meta's policy bars your kind of business from messaging people there."},
	{130501, 130501, ClassParameter, "Unsupported message type", "Keep group messages to text, media and templates: the Groups API does not carry this type."},
	{131000, 131000, ClassRetryOnce, "Something went wrong", "If the retry fails as well, open a Direct Support ticket with the fbtrace_id: Meta names no cause."},
	{131001, 131001, ClassParameter, "Message too long", "Shorten the message: a text body may have 4096 characters, a caption or a template part fewer."},
	{131002, 131002, ClassParameter, "Invalid recipient type", "Set recipient_type to individual, or to group if the recipient is a group ID."},
	{131005, 131005, ClassPermission, "Access denied", "Give the token whatsapp_business_messaging, and its system user access to this WhatsApp account."},
	{131006, 131006, ClassParameter, "Resource not found", "Check the ID in the request: the phone number, media or message it names is not there."},
	{131008, 131008, ClassParameter, "Required parameter is missing", "Add the required parameter that details names: the request lacks it."},
	{131009, 131009, ClassParameter, "Parameter value is not valid", "Correct the value that details names; write a recipient's number with its country code."},
	{131016, 131016, ClassTransient, "Service unavailable", "Follow Meta's status page: a part of the Cloud API is down; see what is overdue once it is back."},
	{131020, 131020, ClassParameter, "Bad Group", "Wait until somebody has joined: a group whose only member is the business takes no messages."},
	{131021, 131021, ClassParameter, "Recipient cannot be sender", "Correct the recipient: it is the very number the message is sent from."},
	{131026, 131026, ClassRecipient, "Message Undeliverable", "Check by another channel that the person is on WhatsApp, accepted its terms and has a recent version."},
	{131027, 131027, ClassRetryOnce, "Something went wrong", "Send the message once more; if that fails too, give its wamid to Direct Support."},
	{131030, 131030, ClassRecipient, "Recipient phone number not in allowed list", "Add the recipient to the test number's allowed list, or send from a production number."},
	{131031, 131031, ClassPolicy, "Account has been locked", "Ask the Health Status API why the account is locked, and appeal; check the PIN if the call sent one."},
	{131035, 131035, ClassUnknown, "Webhook could not be delivered within data retention limit", "Repair the webhook endpoint: events it missed for an hour are gone, as No Storage keeps none longer."},
	{131036, 131036, ClassRecipient, "Message failed to be delivered on at least one of the user's device", "Send it again if it still matters: the main device asked for a copy after No Storage had deleted it."},
	{131037, 131037, ClassPermission, "WhatsApp provided number needs display name approval", "Get a display name approved for this 555 number in WhatsApp Manager; it cannot send before that."},
	{131041, 131041, ClassParameter, "Group unknown", "Check the group ID: the group does not exist, or this number is not a member of it."},
	{131042, 131042, ClassPolicy, "Business eligibility payment issue", "Fix billing in WhatsApp Manager: payment method, credit line, currency or time zone is missing or failed."},
	{131043, 131043, ClassRecipient, "Message expired", "Send a fresh message if it is still of use: this one was not delivered within its time to live."},
	{131044, 131044, ClassPolicy, "Business eligibility payment issue", "Attach a valid payment method to the account: people cannot call it without one."},
	{131045, 131045, ClassPermission, "Incorrect certificate", "Register the sending number again with its PIN: its certificate or registration is broken."},
	{131047, 131047, ClassRecipient, "Re-engagement message", "More than 24 hours since the person last wrote: send an approved template instead."},
	{131048, 131048, ClassPolicy, "Spam rate limit hit", "Pause campaigns from this number: too many people blocked or reported it; check its quality rating."},
	{131049, 131049, ClassRecipient, "Meta chose not to deliver", "Wait at least 24 hours before sending this person marketing again; a sooner try is refused too."},
	{131050, 131050, ClassRecipient, "User has stopped receipt of marketing messages", "Take this person off your marketing list: they opted out of marketing from your business."},
	{131051, 131051, ClassParameter, "Unsupported message type", "Send a supported type; for an inbound message, ask the person to send it in another form."},
	{131052, 131052, ClassRecipient, "Media download error", "Ask the person to send the file by another channel: their media could not be downloaded."},
	{131053, 131053, ClassParameter, "Media upload error", "Check the file's MIME type, size and codec against Meta's supported media; details says what is wrong."},
	{131055, 131055, ClassParameter, "Method not allowed", "Send a marketing template through this endpoint; for calls on a number with SIP enabled, use SIP."},
	{131056, 131056, ClassThrottle, "(Business Account, Consumer Account) pair rate limit hit", "Write to this person less often: one number may send one recipient about a message every 6 seconds."},
	{131057, 131057, ClassTransient, "Account in maintenance mode", "Wait some minutes: the account is in maintenance, often for a throughput upgrade."},
	{131059, 131059, ClassParameter, "Invalid cursor", "Start the pagination again from the first page: the cursor expired or was damaged."},
	{131060, 131060, ClassUnknown, "Message unavailable to Cloud API", "Read the message in the WhatsApp Business app: it cannot be had through the Cloud API."},
	{131062, 131062, ClassParameter, "BSUID recipients are not supported for this message", "Send to the phone number instead: this kind of message cannot go to a business-scoped user ID."},
	{131063, 131063, ClassParameter, "Marketing templates disabled on Cloud API", "Use the Marketing Messages API, or set disable_marketing_messages_on_cloud_api back to false."},
	{131064, 131064, ClassPolicy, "Messaging limit reached, template classification violations", "Correct your templates' categories; the limit lifts by itself when the enforcement period ends."},
	{131201, 131201, ClassUnknown, "Request partially succeeded", "Read each participant's own error: part of this group request was done; repeat only the rest."},
	{131202, 131202, ClassParameter, "Duplicate participant", "Remove the duplicates from the list of participants."},
	{131203, 131203, ClassRecipient, "Recipient has not accepted our new Terms of Service and Privacy Policy", "Ask this person, outside WhatsApp, to accept its new terms; nothing reaches them before that."},
	{131204, 131204, ClassParameter, "Participant overlimit", "Remove participants or open a second group: this one has reached its size limit."},
	{131207, 131207, ClassPolicy, "Group suspended", "Send nothing to this group: Meta suspended it over policy; the group status webhook tells when that ends."},
	{131208, 131208, ClassThrottle, "Group Rate Limit Hit", "Space out group operations: this number made too many in a short time."},
	{131209, 131209, ClassParameter, "Invalid Group Profile Picture Aspect Ratio", "Crop the group picture so that its width equals its height."},
	{131210, 131210, ClassParameter, "Image is Too Small to Process", "Use a larger group picture: both sides must be over 192 pixels."},
	{131211, 131211, ClassPolicy, "Group create limit reached", "Delete groups no longer in use: this number has as many as it may create."},
	{131212, 131212, ClassParameter, "Participant is not a part of the group", "Fetch the group's participants again: this person is not, or no longer, one of them."},
	{131213, 131213, ClassParameter, "Group join request does not exist", "Fetch the open join requests again: this one was answered or withdrawn."},
	{131214, 131214, ClassPolicy, "Group creation is temporarily disabled", "Send less marketing inside the service window: too much of it in 7 days has stopped group creation."},
	{131215, 131215, ClassPermission, "This phone number is not eligible to access Groups APIs", "Use a number that is eligible for the Groups API: this one is not."},

	// Templates, when they are sent.
	{132000, 132000, ClassParameter, "Template Param Count Mismatch", "Pass exactly as many values as the template has variables."},
	{132001, 132001, ClassParameter, "Template does not exist", "Check the template's name and language code, and that WhatsApp Manager shows it as approved."},
	{132005, 132005, ClassParameter, "Template Hydrated Text Too Long", "Shorten the values: with them filled in, the template's text exceeds its limit."},
	{132007, 132007, ClassPolicy, "Template Format Character Policy Violated", "Rewrite the template and submit it again: its content breaks a WhatsApp policy."},
	{132008, 132008, ClassParameter, "Template parameter value invalid", "Correct the template value that details names: its content is not allowed in that place."},
	{132012, 132012, ClassParameter, "Template Parameter Format Mismatch", "Give each value in the format its template variable was defined with."},
	{132015, 132015, ClassPolicy, "Template is Paused", "Switch to another template, and edit this one: Meta paused it after poor feedback from recipients."},
	{132016, 132016, ClassPolicy, "Template is Disabled", "Create a new template with other content: this one was paused too often and is disabled for good."},
	{132018, 132018, ClassParameter, "Template validation error", "Compare the call's components and values with the approved template; details names the mismatch."},
	{132068, 132068, ClassPolicy, "Flow is blocked", "Send no more messages with this Flow until it is repaired: Meta has blocked it."},
	{132069, 132069, ClassThrottle, "Flow is throttled", "Repair the Flow's failing or slow endpoint: until then Meta lets 10 messages an hour through."},

	// Registration of phone numbers.
	{133000, 133000, ClassParameter, "Incomplete Deregistration", "Deregister the number once more, then register it: the last deregistration did not finish."},
	{133001, 133001, ClassParameter, "Decryption Error", "Export the on-premises backup again: what the registration sent could not be decrypted."},
	{133002, 133002, ClassParameter, "Backup Blob Decryption Error", "Check the backup's password and that its blob is complete: Meta could not decrypt it."},
	{133003, 133003, ClassParameter, "Recovery Token Decryption Error", "Register with a freshly exported backup: the recovery token in this one could not be decrypted."},
	{133004, 133004, ClassTransient, "Server Temporarily Unavailable", "Check Meta's status page and details, then register again: its registration servers are down."},
	{133005, 133005, ClassParameter, "Two step verification PIN Mismatch", "Use the right two-step PIN, or set a new one in WhatsApp Manager; do not guess."},
	{133006, 133006, ClassParameter, "Phone number re-verification needed", "Request a verification code for the phone number and enter it, then register the number."},
	{133007, 133007, ClassPolicy, "Account Blocked", "Ask Meta's support to review the number: WhatsApp has blocked it."},
	{133008, 133008, ClassThrottle, "Too Many two step verification PIN Guesses", "Stop guessing the PIN: wait as long as details says, or reset it in WhatsApp Manager."},
	{133009, 133009, ClassThrottle, "Two step verification PIN Guessed Too Fast", "Wait as long as details says before sending the PIN again: the tries came too fast."},
	{133010, 133010, ClassPermission, "Phone number Not Registered", "Register this phone number (POST /register) before you send from it."},
	{133015, 133015, ClassThrottle, "Please wait a few minutes before attempting to register this phone number", "Wait 5 minutes, then register again: Meta is still deleting this phone number."},
	{133016, 133016, ClassThrottle, "Account register deregister rate limit exceeded", "Register no more for 72 hours: 10 attempts within such a span block the number."},

	// Payments, marketing messages, verification.
	{134011, 134011, ClassPermission, "WhatsApp Payments terms of service has not been accepted", "Accept the WhatsApp Payments terms at the link in the error's message."},
	{134100, 134100, ClassParameter, "Only marketing messages supported", "Send utility and authentication templates through /messages: this endpoint takes only marketing."},
	{134101, 134101, ClassThrottle, "Your template is still syncing", "Wait up to 10 minutes, then send again: the new template is still being synchronised."},
	{134102, 134102, ClassPermission, "Template unavailable for use", "Check marketing_messages_lite_api_status; if it is ONBOARDED, ask Direct Support about the template."},
	{134103, 134103, ClassUnknown, "Announced without a description", "Read the error's details: Meta announced this marketing messages code without describing it."},
	{135000, 135000, ClassParameter, "Generic user error", "Compare the parameters with the endpoint's reference: Meta found a fault but does not say which."},
	{136024, 136024, ClassThrottle, "Request code error", "Wait long before requesting another code for this number; error_user_msg says what was wrong."},
	{136025, 136025, ClassParameter, "Verify code error", "Request a new verification code and enter that one: the last was wrong or has expired."},
	{137000, 137000, ClassRecipient, "Identity key hash mismatch", "Verify by another channel who has the number now, then resend without the identity hash."},

	// Calling.
	{138000, 138000, ClassPermission, "Calling not enabled", "Switch calling on in this phone number's call settings."},
	{138001, 138001, ClassRecipient, "Receiver Uncallable", "Message this person instead: their WhatsApp cannot take calls, or the number is not on WhatsApp."},
	{138002, 138002, ClassThrottle, "Concurrent Calls limit", "Queue further calls: this number already has 1000 under way, the most Meta allows."},
	{138003, 138003, ClassRecipient, "Duplicate call", "Wait for the current call to end: this person is already on a call with your number."},
	{138004, 138004, ClassRetryOnce, "Connection error", "Check the SDP and the connection parameters, then call once more."},
	{138005, 138005, ClassThrottle, "Call rate limit exceeded", "Start calls more slowly: this number has reached its limit for starting them."},
	{138006, 138006, ClassPermission, "No approved call permission found", "Ask the person for permission to call first: none has been approved."},
	{138007, 138007, ClassParameter, "Connect Timeout error", "Answer faster: apply Meta's SDP and send your own before the connection times out."},
	{138009, 138009, ClassThrottle, "Call Permission Request Limit Hit", "Do not ask this person again yet: call permission may be asked once a day and twice a week."},
	{138011, 138011, ClassRecipient, "Call permission request outside a conversation", "Wait until the person writes before asking for call permission, or ask by template."},
	{138012, 138012, ClassThrottle, "Business Initiated Calls Limit Hit", "Read in error_data when the next call is allowed: the limit of calls in 24 hours is reached."},
	{138013, 138013, ClassPermission, "Business-initiated calling is not available", "Let people call you instead: business-initiated calls are not available to this phone number."},
	{138014, 138014, ClassPolicy, "Calling is temporarily disabled", "Pause calling until Meta lifts the restriction: this number's calls were of low quality."},
	{138015, 138015, ClassPermission, "Calling cannot be enabled", "Raise the number's messaging limit to 2000 or more: calling cannot be enabled below that."},
	{138017, 138017, ClassParameter, "A permanent call permission already exists", "Call without asking: this person has given permission for good."},
	{138018, 138018, ClassPermission, "Technical pre-requisites are not met", "Configure SIP, or subscribe an app of the account to the calls webhook field, then enable calling."},
	{138019, 138019, ClassRetryOnce, "Call setup failed", "Call once more later: WhatsApp on the person's device could not set up the call."},
	{138020, 138020, ClassRetryOnce, "Relay connection failed", "Call once more later: the person's device could not reach Meta's relay."},
	{138021, 138021, ClassParameter, "Media receive timeout", "Check that your media server sends to Meta's relay: the person's device heard nothing and hung up."},
	{138022, 138022, ClassRetryOnce, "Media transmit timeout", "Call once more later: the person's device sent nothing for too long and hung up."},
	{138023, 138023, ClassRetryOnce, "Call accepted but terminated with no media signals", "Find out whether you were connected before calling again: the call was taken, but no media was seen."},

	// Flows and the blocklist.
	{139000, 139000, ClassPolicy, "Blocked By Integrity", "Check the account's quality and business verification: Meta's integrity rules block this Flow."},
	{139001, 139001, ClassParameter, "Flow can't be updated / Error while processing Flow JSON", "Update only Flows in draft, and fix the faults Meta lists in the Flow JSON."},
	{139002, 139002, ClassParameter, "Publishing Flow in invalid state or with validation errors", "Clear what stops publishing: validation errors, the endpoint's health check, public key or linked app."},
	{139003, 139003, ClassParameter, "Can't deprecate unpublished flow / already deprecated", "Delete the Flow if it is a draft; if it is deprecated already, there is nothing left to do."},
	{139004, 139004, ClassParameter, "Can't delete published Flow", "Deprecate this Flow instead: only drafts can be deleted."},
	{139006, 139006, ClassUnknown, "Metrics threshold is not reached", "Ask for this Flow's metrics later: too few requests have been made to report on."},
	{139100, 139100, ClassParameter, "Failed to block/unblock some users", "Read the error beside each failed number; only people who wrote within 24 hours can be blocked."},
	{139101, 139101, ClassParameter, "Blocklist limit reached", "Unblock people first: the blocklist has 64,000 entries at most."},
	{139102, 139102, ClassRetryOnce, "Blocklist concurrent update", "Read the blocklist again from its first page: it changed while it was being read."},
	{139103, 139103, ClassRetryOnce, "Internal error", "Repeat the block or unblock request once; if it fails again, give the fbtrace_id to support."},

	// Usernames.
	{147001, 147001, ClassParameter, "Username not available", "Choose another username: this one is taken or not permitted."},
	{147002, 147002, ClassPermission, "Account not eligible to request a username", "Ask for a username once the business has a higher messaging limit: it is not eligible yet."},
	{147003, 147003, ClassPermission, "Facebook account not linked", "Link the number to the Facebook Page that already has this username."},
	{147004, 147004, ClassPermission, "Instagram account not linked", "Link the number to the Instagram account that already has this username."},
	{147005, 147005, ClassParameter, "Username transfer required", "Set transfer_action to force_transfer if the username should move here from your other number."},

	// Phone numbers and templates of an account, and template insights.
	{200000, 200000, ClassUnknown, "Cannot add phone number to WhatsApp Business Account", "Add the number in WhatsApp Manager to see what stands in the way: this code does not say."},
	{200002, 200002, ClassUnknown, "HSM Template creation failed", "Read error_user_msg, and compare the template with Meta's rules: it was not created."},
	{200005, 200005, ClassPermission, "Template insights unavailable", "Carry on without template insights: Meta does not offer them to this account yet."},
	{200006, 200006, ClassParameter, "Cannot disable template insights", "Leave template insights on: once enabled, they cannot be disabled."},
	{200007, 200007, ClassPermission, "Template Insights not enabled", "Enable template insights for this account in WhatsApp Manager before you query them."},

	// Seven digits: links, onboarding, template management, migration, signups.
	{1609005, 1609005, ClassParameter, "Error Posting Link", "Open the posted link from outside your network: Meta could not fetch it."},
	{1752041, 1752041, ClassParameter, "Duplicate Request", "Do nothing: this client was invited already and is onboarded without another request."},
	// Instagram, as subcodes: those that say more than their code.
	{2207042, 2207042, ClassThrottle, "Content publishing limit reached", "Go on tomorrow: the account has published as many posts as it may in 24 hours."},
	{2207050, 2207050, ClassPolicy, "Instagram account is restricted", "Have the owner sign in to the Instagram app and do what it asks: the account is inactive or restricted."},
	{2207051, 2207051, ClassPolicy, "Action is blocked", "Stop publishing and have the owner appeal: Instagram takes this activity for spam."},
	{2207057, 2207057, ClassParameter, "Thumbnail offset is out of bounds", "Choose a thumbnail offset within the video, in milliseconds."},

	{2388001, 2388001, ClassParameter, "Please confirm ownership / disable two-step authentication", "Verify the number with a registration code, and turn its two-step verification off, before migrating."},
	{2388012, 2388012, ClassParameter, "This phone number already exists in your list of phone numbers", "Skip this migration: the destination account already has the phone number."},
	{2388019, 2388019, ClassParameter, "Message Template Limit Exceeded", "Delete templates no longer in use: the account has as many as it may (250 unless raised)."},
	{2388039, 2388039, ClassParameter, "Message template status can't be changed", "Wait until the template's review has ended before editing it; the edits a day are limited."},
	{2388040, 2388040, ClassParameter, "Character limit exceeded", "Shorten the template field that the error's message names."},
	{2388047, 2388047, ClassParameter, "Message header format is incorrect", "Remove line breaks, formatting, emoji and asterisks from the template's header."},
	{2388072, 2388072, ClassParameter, "Message body format is incorrect", "Correct the formatting of the template's body: error_user_msg names the rule it breaks."},
	{2388073, 2388073, ClassParameter, "Message footer format is incorrect", "Reduce the template's footer to plain text; error_user_msg names what it may not have."},
	{2388077, 2388077, ClassParameter, "Insight Invalid Product Type Combination", "Query inbound messages by themselves: their product type cannot be combined with others."},
	{2388091, 2388091, ClassParameter, "Not eligible to receive a registration code", "Register the number the ordinary way instead of requesting a code: it is not being migrated."},
	{2388093, 2388093, ClassParameter, "Not eligible to verify a registration code", "Verify the number through ordinary registration: this code belongs to no migration."},
	{2388103, 2388103, ClassParameter, "Cannot migrate phone number", "Clear the obstacle that error_user_title names: webhook, display name, credit line or approval."},
	{2388293, 2388293, ClassParameter, "Parameters words ratio exceeds limit", "Use fewer variables in the template, or put more words around them."},
	{2388299, 2388299, ClassParameter, "Leading or trailing parameters not allowed", "Put text before the first and after the last variable of the template."},
	{2494100, 2494100, ClassTransient, "Account is in maintenance mode", "Wait a few minutes before migrating: the phone number is in maintenance."},
	{2494164, 2494164, ClassParameter, "Signup not found", "Check the signup's ID: this account has none with it."},
	{2494165, 2494165, ClassPermission, "In-App Signup API not enabled", "Ask Meta to enable the In-App Signup API for this account before calling it."},
	{2494166, 2494166, ClassParameter, "Unknown placeholder", "Remove the placeholder that Meta does not know from the signup's messages."},
	{2494167, 2494167, ClassParameter, "Missing placeholder value", "Give a value for each placeholder, such as a promo_code for {{promo_code}}."},
	{2494168, 2494168, ClassPermission, "Terms not accepted", "Accept the In-App Signup terms for this account, then create the signup."},
	{2494176, 2494176, ClassParameter, "Terms already accepted", "Go on to the next step: the In-App Signup terms are accepted already."},
	{2494177, 2494177, ClassParameter, "Terms URL not allowed", "Replace the address of the terms: Meta does not allow this one."},
	{2494179, 2494179, ClassParameter, "Website URL must be https", "Give the website's address with https."},
	{2593079, 2593079, ClassParameter, "WABA already marked for migration to a different solution ID", "Ask Meta's support which solution the account is moving to: a migration is already marked."},
	{2593085, 2593085, ClassParameter, "Invalid WhatsApp Business Account for OBO Mobility", "Have the client accept the request in Meta Business Suite, or drop it if they own the account."},
	{2593107, 2593107, ClassParameter, "Synchronization Request limit exceeded", "Offboard the business and onboard it again: contacts and history can each be requested only once."},
	{2593108, 2593108, ClassParameter, "Synchronization Request made outside of allowed time window", "Offboard the business and onboard it again, then request the synchronisation within 24 hours."},
	{2593109, 2593109, ClassPermission, "History sync is turned off by the business", "Ask the business to share its history in the WhatsApp Business app, if you need the old chats."},
	{4027001, 4027001, ClassParameter, "Invalid input data", "Correct the types and formats in the request: the welcome message sequence is not well formed."},
	{4027005, 4027005, ClassPermission, "Could not create a welcome message sequence", "Check the token's permissions on the account: the welcome message sequence was not created."},
	{4027006, 4027006, ClassPermission, "Could not update a welcome message sequence", "Check the sequence's ID and fields, and the token's permissions: nothing was updated."},
	{4027007, 4027007, ClassUnknown, "API unavailable", "Try again in a day or two: this API is not open to the account yet."},
	{4027010, 4027010, ClassParameter, "Missing parameter", "Complete the welcome message sequence: a parameter that it requires is missing."},
	{4027012, 4027012, ClassParameter, "Sequence used in an ad", "Take the welcome message sequence out of the ad, then change or delete it."},
	{4027017, 4027017, ClassParameter, "Could not load the sequence", "Check the sequence's ID and the token's access: there is no such sequence for this token."},
}
