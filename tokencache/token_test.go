package tokencache

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const canary = "eyJ0eXAiOiJKV1QifQ.canary-payload.canary-signature"

// jwt builds an unsigned token with the given payload.
func jwtOf(payload string) string {
	enc := base64.RawURLEncoding.EncodeToString
	return enc([]byte(`{"alg":"RS256"}`)) + "." + enc([]byte(payload)) + "." + enc([]byte("signature"))
}

func TestTokenCannotPrintItself(t *testing.T) {
	token := NewToken(canary, time.Now().Add(time.Hour))
	status := Status{Token: token}
	wrapped := struct{ Token *Token }{token}
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%c", "%U", "%e", "%p", "%T", "%t"} {
		for _, v := range []any{token, *token, status, &status, wrapped, &wrapped, []*Token{token}, map[string]*Token{"t": token}} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
	}
	for _, v := range []any{token, *token, status, wrapped} {
		b, err := json.Marshal(v)
		if err != nil {
			t.Errorf("JSON: %v", err)
		}
		out.Write(b)
		b, _ = xml.Marshal(v)
		out.Write(b)
	}
	out.WriteString(logged(token, status, wrapped))
	fmt.Fprintln(&out, token.String(), (*Token)(nil))
	assertNoCanary(t, out.String())
	if !strings.Contains(out.String(), "[token expiring ") {
		t.Errorf("a printed token should still tell its expiry: %s", out.String()[:200])
	}
}

// logged returns what zap, in both encodings, and slog make of the values.
func logged(values ...any) string {
	var out bytes.Buffer
	for _, enc := range []zapcore.Encoder{
		zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.NewConsoleEncoder(zap.NewDevelopmentEncoderConfig()),
	} {
		log := zap.New(zapcore.NewCore(enc, zapcore.AddSync(&out), zap.DebugLevel))
		for _, v := range values {
			log.Info("message", zap.Any("any", v), zap.Reflect("reflect", v), zap.Any("list", []any{v}))
			log.Sugar().Infow("message", "value", v)
			slog.New(slog.NewJSONHandler(&out, nil)).Info("message", "value", v)
			slog.New(slog.NewTextHandler(&out, nil)).Info("message", "value", v)
		}
	}
	return out.String()
}

func assertNoCanary(t *testing.T, s string) {
	t.Helper()
	hex := fmt.Sprintf("%x", "canary")
	for line := range strings.SplitSeq(s, "\n") {
		if l := strings.ToLower(line); strings.Contains(l, "canary") || strings.Contains(l, hex) || strings.Contains(l, "ey"+"j0ex") {
			t.Errorf("a secret was printed: %s", line)
		}
	}
}

func TestAuthorizationIsBuiltOnce(t *testing.T) {
	token := NewToken("abc", time.Now().Add(time.Hour))
	if got := token.Authorization(); got != "Bearer abc" {
		t.Errorf("Authorization = %q", got)
	}
	if n := testing.AllocsPerRun(100, func() { _ = token.Authorization() }); n != 0 {
		t.Errorf("Authorization allocates %v times", n)
	}
}

func TestExpiresOnKeepsNoMonotonicReading(t *testing.T) {
	at := time.Now().Add(time.Hour)
	if got := NewToken("abc", at).ExpiresOn(); got != at.Round(0) {
		t.Errorf("ExpiresOn = %v, want %v", got, at.Round(0))
	}
}

// The clocks cannot be set in a test, not even in a synctest bubble; but a
// clock that jumped by d is the same as a deadline that lies d the other way.
func TestTokenIsUsableWhileNeitherClockHasReachedItsExpiry(t *testing.T) {
	const life = time.Hour
	tests := []struct {
		name     string
		elapsed  time.Duration // on the monotonic clock, since the token was obtained
		wallStep time.Duration // by which the wall clock was ahead of that
		usable   bool
	}{
		{"fresh", 0, 0, true},
		{"one nanosecond before its expiry", life - 1, 0, true},
		{"at its expiry", life, 0, false},
		{"after its expiry", life + time.Minute, 0, false},
		{"the clock was set back an hour, and the token is not over yet", 59 * time.Minute, -time.Hour, true},
		{"the clock was set back an hour, and the token is over", 61 * time.Minute, -time.Hour, false},
		{"the clock was set back ten years", life, -10 * 365 * 24 * time.Hour, false},
		{"the machine slept for two hours", time.Minute, 2 * time.Hour, false},
		{"the machine slept for half an hour", 20 * time.Minute, 30 * time.Minute, true},
		{"the machine slept until just after the expiry", 20 * time.Minute, 40 * time.Minute, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			now := time.Now()
			token := &Token{expires: deadline{
				wall: now.Round(0).Add(life - tt.elapsed - tt.wallStep),
				mono: now.Add(life - tt.elapsed),
			}}
			if got := token.usable(now); got != tt.usable {
				t.Errorf("usable = %v, want %v", got, tt.usable)
			}
			if in := token.expires.in(now); (in > 0) != tt.usable {
				t.Errorf("expires in %v, though usable = %v", in, tt.usable)
			}
		})
	}
}

func TestNoTokenIsNotUsable(t *testing.T) {
	if (*Token)(nil).usable(time.Now()) || (*Token)(nil).same(nil) {
		t.Error("nil passes for a token")
	}
}

func TestClaims(t *testing.T) {
	iat, exp := time.Unix(1_700_000_000, 0).UTC(), time.Unix(1_700_003_600, 0).UTC()
	tests := []struct {
		name, token string
		want        Claims
	}{
		{"a v1 application token", jwtOf(`{"aud":"https://cognitiveservices.azure.com","tid":"t","oid":"o","appid":"a","iat":1700000000,"exp":1700003600}`),
			Claims{Audience: "https://cognitiveservices.azure.com", TenantID: "t", ObjectID: "o", AppID: "a", IssuedAt: iat, ExpiresAt: exp}},
		{"a v2 token names the application azp", jwtOf(`{"aud":"guid","azp":"a"}`), Claims{Audience: "guid", AppID: "a"}},
		{"a person's token", jwtOf(`{"upn":"ana@example.com","appid":"04b0"}`), Claims{UPN: "ana@example.com", AppID: "04b0"}},
		{"an audience list", jwtOf(`{"aud":["first","second"]}`), Claims{Audience: "first"}},
		{"an empty audience list", jwtOf(`{"aud":[],"tid":"t"}`), Claims{TenantID: "t"}},
		{"claims of odd types are passed over", jwtOf(`{"aud":7,"tid":{"x":1},"oid":"o","exp":"soon","iat":1e99}`), Claims{ObjectID: "o"}},
		{"padding is tolerated", "h." + base64.URLEncoding.EncodeToString([]byte(`{"tid":"tt"}`)) + ".s", Claims{TenantID: "tt"}},
		{"an opaque token", "opaque", Claims{}},
		{"three parts that are no JWT", "a.b.c", Claims{}},
		{"base64 that is no JSON", "a." + base64.RawURLEncoding.EncodeToString([]byte("hello")) + ".c", Claims{}},
		{"an encrypted token", "a.b.c.d.e", Claims{}},
		{"an empty token", "", Claims{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := NewToken(tt.token, time.Now()).Claims()
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func FuzzClaims(f *testing.F) {
	f.Add(jwtOf(`{"aud":["x"],"exp":1}`))
	f.Add("a.e30.c")
	f.Fuzz(func(t *testing.T, s string) { NewToken(s, time.Now()).Claims() })
}
