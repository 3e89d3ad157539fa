// Package diagnose tells what is wrong from what can be seen.
//
// Azure answers 401 for a missing role, a wrong audience, an expired token and
// a stray key alike, and Entra and the network have their own ways of saying
// no. What tells them apart is written down once, as data: a table of [Row]s,
// each with the signature of one cause, one sentence for whoever made the
// request, and the commands that mend it for whoever runs the program.
//
// Everything here is pure: no I/O, no clock, no logging. What is not in the
// table has no cause; the package never guesses.
//
// A sentence goes to clients, so it is constant: it names no identity and holds
// none of the words by which LiteLLM would reclassify the error. A remedy names
// names, so it goes to the log, the check command and the status page only. It
// is made to be pasted into a shell: prose stands behind "#", words in capitals
// (NAME, GROUP) are left to fill in, and what came from outside was filled in
// only if a shell cannot misread it.
package diagnose

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Input is an answer of Azure, with what is known about the request.
type Input struct {
	Status int
	Header http.Header
	// Body is the answer's body after content decoding, or its first 16 KiB.
	Body []byte
	// Claims are those of the token that was sent; zero if it was opaque.
	Claims Claims
	Method string
	// Path (escaped) and Query (raw, without "?") are those that were sent to
	// Azure. Of the query only api-version is used; it must be given, for its
	// absence is a diagnosis.
	Path, Query string
	// Host is the upstream's, with or without a port.
	Host string
	Now  time.Time
}

// Claims are the unverified claims of one of our own tokens. The fields are
// those of a token's claims elsewhere in this program, so that one converts
// into the other.
type Claims struct {
	Audience, TenantID, ObjectID, AppID, UPN string
	IssuedAt, ExpiresAt                      time.Time
}

// Diagnosis is a cause and what mends it.
type Diagnosis struct {
	// Cause is stable and safe as a metric's label, Detail tells the kinds of
	// credential-unavailable apart and is empty otherwise.
	Cause, Detail string
	// Sentence may be shown to clients, Remedy may not: it names identities.
	Sentence, Remedy string
	// Auth says that authentication or set-up is at fault, so that the answer
	// is worth annotating.
	Auth  bool
	Class Class
}

// Class sorts causes by what has to be mended. Its number is the exit status of
// the check command.
type Class int

const (
	ClassNone          Class = 0 // nothing to set right: a spent quota, a filtered prompt
	ClassToken         Class = 3
	ClassNetwork       Class = 4
	ClassAuthorization Class = 5
	ClassEndpoint      Class = 6 // endpoint, deployment or api-version
)

// Kind says what a row is recognised in.
type Kind string

const (
	KindAnswer     Kind = "answer"     // an answer of Azure: Diagnose
	KindSignIn     Kind = "sign-in"    // a refusal of Entra: AADSTS
	KindCredential Kind = "credential" // a credential that could not even ask: Credential
	KindNetwork    Kind = "network"    // the way to Azure: Network, Host, PrivateLink, Clock, Proxies
)

// Row is one line of the table: how a cause is recognised, what it means and
// what mends it.
type Row struct {
	Kind          Kind
	Cause, Detail string
	// Status and Code (error.code) must be equal where set, and the message
	// must contain one of Phrases. Where there is a Go error its type decides
	// and Phrases is only how it reads.
	Status  int
	Code    string
	Phrases []string
	// Sentence is constant; in Remedy each {{NAME}} is filled in if known.
	Sentence, Remedy string
	Auth             bool
	Class            Class

	// when decides between rows with one signature; nil means yes.
	when func(*evidence) bool
}

// Causes returns the whole table in the order in which it is evaluated.
func Causes() []Row {
	var all []Row
	for _, part := range [][]Row{answers, signIns, credentials, network} {
		all = append(all, part...)
	}
	return all
}

// Covers reports whether any row is about answers of this status: what it does
// not cover need not be read.
func Covers(status int) bool {
	return slices.ContainsFunc(answers, func(r Row) bool { return r.Status == status })
}

// Diagnose tells the cause of a refusal. It reports false for whatever is not
// in the table, and for every status below 400.
func Diagnose(in Input) (Diagnosis, bool) {
	if in.Status < 400 || !suspicious(in.Status, in.Body) {
		return Diagnosis{}, false
	}
	text, ok := locate(in.Body)
	if !ok {
		return Diagnosis{}, false
	}
	return find(answers, &evidence{in: in, host: in.Host, code: text.code, message: text.message})
}

// suspicious is the cheap test: most answers end here, before any of the body
// is decoded or anything is allocated.
func suspicious(status int, body []byte) bool {
	for i := range answers {
		if answers[i].Status == status && answers[i].marked(body) {
			return true
		}
	}
	return false
}

// marked reports whether the raw body contains the row's phrase, or its code
// where the code alone is the signature.
func (r *Row) marked(body []byte) bool {
	for _, phrase := range r.Phrases {
		if bytes.Contains(body, []byte(phrase)) {
			return true
		}
	}
	return len(r.Phrases) == 0 && bytes.Contains(body, []byte(r.Code))
}

func (r *Row) matches(e *evidence) bool {
	return r.Status == e.in.Status &&
		(r.Code == "" || r.Code == e.code) &&
		(len(r.Phrases) == 0 || e.err != nil || e.says(r.Phrases...)) &&
		(r.when == nil || r.when(e))
}

// find returns the first row that matches.
func find(rows []Row, e *evidence) (Diagnosis, bool) {
	for i := range rows {
		if rows[i].matches(e) {
			return rows[i].diagnosis(e), true
		}
	}
	return Diagnosis{}, false
}

// byCause returns the row of that cause and detail, which must exist.
func byCause(rows []Row, cause, detail string) *Row {
	for i := range rows {
		if rows[i].Cause == cause && rows[i].Detail == detail {
			return &rows[i]
		}
	}
	panic("diagnose: no row for " + cause + " " + detail)
}

func (r *Row) diagnosis(e *evidence) Diagnosis {
	return Diagnosis{
		Cause:    r.Cause,
		Detail:   r.Detail,
		Sentence: r.Sentence,
		Remedy:   expand(r.Remedy, e.fact),
		Auth:     r.Auth,
		Class:    r.Class,
	}
}

// expand replaces each {{NAME}} by its fact, or by the bare NAME for the reader
// to fill in.
func expand(template string, fact func(string) string) string {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(template, "{{")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		name, after, _ := strings.Cut(rest, "}}")
		if value := fact(name); value != "" {
			name = value
		}
		b.WriteString(name)
		template = after
	}
}
