package graphretry

import (
	"encoding/csv"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestEveryDocumentedCodeIsInTheCatalogueWithItsClass(t *testing.T) {
	for code, documented := range documentedCodes(t) {
		_, found := lookUp(code)
		if !assert.True(t, found, "%d %s has no row in the catalogue", code, documented.title) {
			continue
		}
		assert.Equal(t, documented.class, code.Class(), "class of %d %s", code, documented.title)
		assert.NotEmpty(t, code.Title(), "title of %d", code)
		assert.NotEmpty(t, code.Advice(), "advice of %d", code)
	}
}

func TestEveryRowOfTheCatalogueIsDocumented(t *testing.T) {
	documented := documentedCodes(t)
	for _, row := range catalogue {
		for code := row.first; code <= row.last; code++ {
			_, found := documented[code]
			assert.True(t, found, "%d %s has no line in graphtest/codes.csv", code, row.title)
		}
	}
}

func TestCatalogueIsSortedAndDisjoint(t *testing.T) {
	before := Code(-1)
	for _, row := range catalogue {
		assert.LessOrEqual(t, row.first, row.last, "the row of %d ends before it begins", row.first)
		assert.Greater(t, row.first, before, "the row of %d belongs above the row that ends at %d", row.first, before)
		before = row.last
	}
}

func TestTitleIsMetasOwnName(t *testing.T) {
	for code, documented := range documentedCodes(t) {
		title := code.Title()
		switch {
		case strings.HasPrefix(documented.title, "(") && strings.HasSuffix(documented.title, ")"):
			// A description in parentheses: Meta gives the code no name.
			assert.NotContains(t, title, "(", "title of %d", code)
		case strings.HasSuffix(documented.title, "…"):
			name, _, _ := strings.Cut(documented.title, " / ")
			assert.Contains(t, title, name, "title of %d", code)
			assert.NotContains(t, title, "…", "title of %d", code)
		default:
			assert.Equal(t, documented.title, title, "title of %d", code)
		}
		assert.Equal(t, strings.TrimSpace(title), title, "title of %d", code)
	}
}

func TestAdviceIsOneShortSentence(t *testing.T) {
	const longest = 110
	advices := []string{uncataloguedAdvice}
	for _, row := range catalogue {
		advices = append(advices, row.advice)
	}
	for _, advice := range advices {
		assert.Regexp(t, `^[A-Z]`, advice, "advice starts with a capital")
		assert.Regexp(t, `[^.\s]\.$`, advice, "advice ends with a full stop")
		assert.NotRegexp(t, `[.!?] |[\r\n\t]|  `, advice, "advice is one sentence on one line")
		assert.LessOrEqual(t, utf8.RuneCountInString(advice), longest, "length of %q", advice)
	}
}

func TestFewCodesShareAnAdvice(t *testing.T) {
	const handful = 3
	rows := make(map[string][]Code)
	for _, row := range catalogue {
		rows[row.advice] = append(rows[row.advice], row.first)
	}
	for advice, codes := range rows {
		assert.LessOrEqual(t, len(codes), handful, "%v share the advice %q", codes, advice)
	}
	assert.NotContains(t, rows, uncataloguedAdvice)
}

func TestSpecificCodeWinsOverItsRange(t *testing.T) {
	for _, test := range []struct {
		code  Code
		title string
	}{
		{199, ""},
		{200, "No access token was provided"},
		{201, "API Permission"},
		{299, "API Permission"},
		{301, ""},
		{79999, ""},
		{80000, "Business-use-case limits of other products"},
		{80006, "Business-use-case limits of other products"},
		{80007, "Rate limit issues"},
		{80008, "Too many calls to this WhatsApp Business account"},
		{80009, "Business-use-case limits of other products"},
		{80014, "Business-use-case limits of other products"},
		{80015, ""},
	} {
		assert.Equal(t, test.title, test.code.Title(), "%d", test.code)
	}
	assert.NotEqual(t, Code(201).Advice(), Code(200).Advice())
	assert.NotEqual(t, Code(80006).Advice(), Code(80007).Advice())
	assert.NotEqual(t, Code(80009).Advice(), Code(80008).Advice())
}

func TestCodesThatEveryMessageOfASenderWouldGetAreTold(t *testing.T) {
	about := map[Code]string{
		0: "the app user cannot be authenticated", 3: "the app lacks a capability", 10: "permission was not granted",
		102: "the session has ended", 104: "there is no token", 190: "the token has expired", 412: "the app is not installed",
		368: "the account is restricted", 131005: "permission was not granted", 131031: "the account is locked",
		131037: "the number has no approved display name", 131042: "the account cannot pay", 131045: "the number's registration is broken",
		131048: "too many people blocked the number", 131064: "the account's templates are misclassified",
		133007: "the number is blocked", 133010: "the number is not registered",
	}
	for code := Code(200); code <= 299; code++ {
		about[code] = "permission was not granted"
	}
	for _, code := range []Code{210, 220, 221, 230} {
		delete(about, code) // one user, album or photo
	}

	for code := range documentedCodes(t) {
		why, want := about[code]
		assert.Equal(t, want, code.AboutSender(), "%d %s: %s", code, code.Title(), why)
		assert.Equal(t, want, (&Error{Code: code}).AboutSender(), "an Error of %d", code)
		if code >= firstSubcode {
			assert.Equal(t, want, (&Error{Code: 100, Subcode: int(code)}).AboutSender(), "100 with subcode %d", code)
			assert.Equal(t, want, (&Error{Code: 190, Subcode: int(code)}).AboutSender(), "190 with subcode %d", code)
		}
		delete(about, code)
	}
	assert.Empty(t, about, "these are not in graphtest/codes.csv")
}

func TestWhatIsNotInTheCatalogueSaysNothingOfTheSender(t *testing.T) {
	for _, code := range []Code{-1, 999_999} {
		assert.False(t, code.AboutSender())
		assert.False(t, (&Error{Code: code}).AboutSender())
	}
	assert.True(t, (&Error{Code: 190, Subcode: 463}).AboutSender(), "a subcode that is no code")
	assert.True(t, (&Error{Code: 368, Subcode: 999_999}).AboutSender(), "a subcode that is not in the catalogue")
	assert.False(t, (*Error)(nil).AboutSender())
}

func TestCodeOutsideTheCatalogueIsUnknownWithAGeneralAdvice(t *testing.T) {
	const smallest, largest = -1 << 31, 1<<31 - 1
	for _, code := range []Code{smallest, -1, 5, 131046, 4027018, largest} {
		assert.Equal(t, ClassUnknown, code.Class(), "class of %d", code)
		assert.Empty(t, code.Title(), "title of %d", code)
		assert.Equal(t, uncataloguedAdvice, code.Advice(), "advice of %d", code)
	}
}

func TestConstantsAreMetasNumbers(t *testing.T) {
	for _, test := range []struct {
		code  Code
		title string
		class Class
	}{
		{CodeAPIUnknown, "API Unknown", ClassRetryOnce},
		{CodeAPIService, "API Service", ClassTransient},
		{CodePhoneNumberDeleted, "Parameter value is not valid", ClassParameter},
		{CodeInvalidParameter, "Invalid parameter", ClassParameter},
		{CodeUserExperiment, "User's number is part of an experiment", ClassExperiment},
		{CodeSomethingWentWrong, "Something went wrong", ClassRetryOnce},
		{CodeAccessDenied, "Access denied", ClassPermission},
		{CodeParameterMissing, "Required parameter is missing", ClassParameter},
		{CodeParameterInvalid, "Parameter value is not valid", ClassParameter},
		{CodeServiceUnavailable, "Service unavailable", ClassTransient},
		{CodePaymentsTermsNotAccepted, "WhatsApp Payments terms of service has not been accepted", ClassPermission},

		{CodeAPITooManyCalls, "API Too Many Calls", ClassThrottle},
		{CodeAPIUserTooManyCalls, "API User Too Many Calls", ClassThrottle},
		{CodeApplicationLimitReached, "Application limit reached", ClassThrottle},
		{CodeCustomRateLimit, "Custom rate limit / Fetch Call Permission API limit hit", ClassThrottle},
		{CodeRateLimitIssues, "Rate limit issues", ClassThrottle},
		{CodeBusinessAccountTooManyCalls, "Too many calls to this WhatsApp Business account", ClassThrottle},
		{CodeRateLimitHit, "Rate limit hit", ClassThrottle},
		{CodePairRateLimitHit, "(Business Account, Consumer Account) pair rate limit hit", ClassThrottle},
		{CodeRegistrationWaitAFewMinutes, "Please wait a few minutes before attempting to register this phone number", ClassThrottle},
		{CodeTemplateStillSyncing, "Your template is still syncing", ClassThrottle},
	} {
		assert.Equal(t, test.title, test.code.Title(), "title of %d", test.code)
		assert.Equal(t, test.class, test.code.Class(), "class of %d", test.code)
	}
	// Two codes share a title, so that it does not tell them apart.
	assert.EqualValues(t, 33, CodePhoneNumberDeleted)
	assert.EqualValues(t, 131009, CodeParameterInvalid)
	assert.EqualValues(t, 131000, CodeSomethingWentWrong)
}

func TestClassIsNamedInWords(t *testing.T) {
	for class, name := range map[Class]string{
		ClassUnknown:        "unknown",
		ClassTransient:      "transient",
		ClassRetryOnce:      "retry once",
		ClassThrottle:       "throttle",
		ClassParameter:      "parameter",
		ClassPermission:     "permission",
		ClassPolicy:         "policy",
		ClassRecipient:      "recipient",
		ClassExperiment:     "experiment",
		ClassExperiment + 1: "Class(9)",
		42:                  "Class(42)",
		-1:                  "Class(-1)",
	} {
		assert.Equal(t, name, class.String())
	}
	assert.Equal(t, ClassUnknown, *new(Class), "the zero Class")
}

func TestLookingACodeUpAllocatesNothing(t *testing.T) {
	var text string
	allocations := testing.AllocsPerRun(100, func() {
		for _, code := range []Code{0, 250, CodeSomethingWentWrong, 4027017, 5, -1} {
			text = code.Title()
			text = code.Advice()
			text = code.Class().String()
		}
	})
	assert.Zero(t, allocations)
	assert.NotEmpty(t, text)
}

// documentedCode is what graphtest/codes.csv says of a code.
type documentedCode struct {
	class Class
	title string // without the remark in parentheses that may follow the name
}

// documentedCodes reads graphtest/codes.csv, with its ranges written out code by
// code. A line of its own for a code inside a range is what counts for it.
func documentedCodes(t *testing.T) map[Code]documentedCode {
	t.Helper()
	remark := regexp.MustCompile(` \([^()]*\)$`)

	file, err := os.Open("graphtest/codes.csv")
	require.NoError(t, err)
	defer file.Close()
	lines, err := csv.NewReader(file).ReadAll()
	require.NoError(t, err)
	require.Equal(t, []string{"code", "title", "http_status", "class", "source"}, lines[0])

	documented := make(map[Code]documentedCode)
	inRange := make(map[Code]documentedCode)
	seen := make(map[string]bool)
	for _, line := range lines[1:] {
		require.False(t, seen[line[0]], "codes.csv: %s has two lines", line[0])
		seen[line[0]] = true
		require.Regexp(t, `^https://`, line[4], "codes.csv: %s has no source", line[0])
		if strings.Contains(line[0], "/") {
			continue // "100/33" tells of a subcode, which is not a code
		}
		class := Class(slices.Index(classNames[:], line[3]))
		require.GreaterOrEqual(t, class, Class(0), "codes.csv: %s has the class %q, which is none: want the text of a Class", line[0], line[3])
		this := documentedCode{class: class, title: remark.ReplaceAllString(line[1], "")}

		first, last, isRange := strings.Cut(line[0], "-")
		if !isRange {
			documented[number(t, first)] = this
			continue
		}
		for code := number(t, first); code <= number(t, last); code++ {
			inRange[code] = this
		}
	}
	for code, this := range inRange {
		if _, specific := documented[code]; !specific {
			documented[code] = this
		}
	}
	require.GreaterOrEqual(t, len(documented), 300, "codes.csv holds fewer codes than it did")
	return documented
}

func number(t *testing.T, digits string) Code {
	t.Helper()
	n, err := strconv.Atoi(digits)
	require.NoError(t, err)
	return Code(n)
}
