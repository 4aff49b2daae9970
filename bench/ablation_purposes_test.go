package bench

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// purpose is what a mechanism is for: the scenarios in which graphretry misses a target
// without it, or a reason that no scenario shows.
type purpose struct {
	scenarios []string
	reason    string
}

// purposes are those of the mechanisms, by their names.
var purposes = map[string]purpose{
	"worst run of late":                                 shownBy("up 2 s down 10 s", "90 % fail"),
	"the run that brought it down is set apart":         shownBy("down 3 min", "down 20 s", "up 30 s down 30 s"),
	"... and counts if the host fails again":            shownBy("up 2 s down 10 s", "up 30 s down 30 s"),
	"late successes shorten a run":                      {reason: "With 500 messages a second and 70 % failing, the calls that are out when the first one fails can bring the host down alone."},
	"a quarter of the threshold over an interval":       shownBy("100 processes"),
	"a host that fails in part is probed more often":    shownBy("up 2 s down 10 s", "up 30 s down 30 s"),
	"... after intervals that grow":                     {reason: "A host that stays down needs fewer probes."},
	"probes are sent twice as often after some minutes": {reason: "One of 30 runs of an API that is up for 2 s of 12 was found after 8 minutes."},
	"probes before a caller gives up":                   shownBy("down 20s, callers wait 20s"),
	"the probe has the latest deadline":                 {reason: "A probe must have time left for its answer."},
	"who waits in vain is refused at a failed probe":    {reason: "A caller that is refused early can use the time that it has left."},
	"... and shortly before the deadline":               shownBy("Client.Timeout"),
	"an abandoned probe is passed on":                   {reason: "A caller can leave at the very moment in which it becomes the probe. Tests show it."},
	"headroom before a deadline":                        shownBy("callers wait 30 s"),
	"the latest first where callers cancel":             shownBy("callers cancel after 30 s"),
	"recovering begins with the rate of arrival":        shownBy("100 processes"),
	"slow start":                                         {reason: "The caches of an API may be cold after an outage. No scenario has that."},
	"a ceiling of the rate":                              shownBy("capacity 4 times", "collapse after 1 min"),
	"... that follows those who arrive":                  shownBy("20 workers, down 1 min"),
	"... and back":                                       shownBy("then 70 % fail"),
	"... with less of a reserve where some fail":         {reason: "An API with a line after an outage had 1,608 calls in the busiest second when failures raised the ceiling."},
	"... of whom there must be a few":                    {reason: "The rate must not follow one or two callers."},
	"probes have little jitter":                          {reason: "Everybody waits for the end to be noticed. After 3 minutes the last message was out 15 s later with all of the jitter."},
	"a gate for each path":                               shownBy("one of 100 numbers, 80 %", "one of 100 numbers, 80 %, callers wait 30s"),
	"... that goes on with the run":                      {reason: "A path is to be down as soon as its host would be. Tests show it."},
	"... and is told first":                              {reason: "A path that fails must not take its host with it. Tests show it."},
	"a call of another path asks whether the host is up": {reason: "A path can fail while nothing is known of the others. Its test shows it."},
	"who waits at the host moves to a path that falls":   {reason: "A number can go on failing after an outage of all. Its test shows it."},
	"throttling answers lower the rate":                  shownBy("limit 80"),
	"the rate stays for a while once lowered":            shownBy("limit 80"),
	"the brake":                                                shownBy("collapse after 1 min", "brownout"),
	"... also while the host is up":                            shownBy("brownout"),
	"... lets off where less does not help":                    shownBy("70 % fail", "90 % fail"),
	"... and tries again after a while":                        {reason: "A wrong verdict must not last."},
	"... takes more answers if in doubt":                       {reason: "A verdict must not rest on few answers."},
	"... counts no long run in full":                           {reason: "One long run of failures is not as much evidence as its length."},
	"... of the host alone":                                    {reason: "Two brakes in a row are each on trial for the other. Its test shows it."},
	"... ever more rarely":                                     {reason: "A host that fails by chance need not be tried each minute."},
	"... and drains what has gathered":                         {reason: "What waits after a trial are retries first: where they fail whenever they are sent, they look like an outage."},
	"... learns what is normal":                                {reason: "A host that fails by chance can be overloaded, too."},
	"... only if it does so more than once":                    {reason: "A host that comes and goes is up in one turn and down in the next: its test shows it."},
	"... not in a slow start":                                  {reason: "A trial keeps the rate as it is, and that of a slow start is low: its test shows it."},
	"... sooner while recovering":                              shownBy("collapse of 20 processes after 3 min"),
	"... and counts many alike in a second as one":             {reason: "An API that comes and goes looks as if less load had helped: its test shows it."},
	"... keeps the root of the share":                          {reason: "It is what a host that collapses can do."},
	"an answer belongs to the turn in which its call was sent": shownBy("slow errors"),
	"a turn counts once nearly all is answered":                {reason: "Errors may take longer than successes."},
	"what has gathered in a trial counts for the outage":       {reason: "An outage that begins in a trial would release what has gathered at a call a second. Its test shows it."},
	"the ends of a turn do not count":                          {reason: "The clocks of processes differ, and those of a simulation do not."},
}

func shownBy(scenarios ...string) purpose { return purpose{scenarios: scenarios} }

// text is what the table says of a mechanism without which no target is missed.
func (p purpose) text() string {
	if p.reason == "" {
		return "no target"
	}
	return "no target. " + p.reason
}

func TestEveryMechanismHasAPurpose(t *testing.T) {
	for name, purpose := range purposes {
		require.True(t, slices.ContainsFunc(mechanisms, func(m mechanism) bool { return m.name == name }), "no mechanism %q", name)
		for _, shown := range purpose.scenarios {
			require.True(t, slices.ContainsFunc(scenarios, func(s scenario) bool { return s.name == shown }), "%s: no scenario %q", name, shown)
		}
	}
	for _, m := range mechanisms {
		require.NotZero(t, purposes[m.name], "%s", m.name)
	}
}

func TestOnlyWhatWasMeasuredIsWorse(t *testing.T) {
	first, second := stormRows[0], stormRows[1]
	require.NotEqual(t, first.scenario, second.scenario)
	whole := map[string]float64{first.key(): first.target, second.key(): second.target}
	without := map[string]float64{first.key(): 2 * first.target}
	require.Contains(t, whatIsWorse(whole, without, []string{first.scenario}), first.name)
	require.NotContains(t, whatIsWorse(whole, without, []string{first.scenario}), second.name)
	require.Contains(t, whatIsWorse(whole, without, nil), second.name, "it was measured, and has no figure")
}
