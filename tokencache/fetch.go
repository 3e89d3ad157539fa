package tokencache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// forced are claims that ask for nothing. Any claims make MSAL pass over its
// cache and replace the entry, and there is no other way: until five minutes
// before the expiry, GetToken would return the token that we already hold.
const forced = "{}"

// fetch asks the credential for a token. claims is empty for the first token,
// forced for a renewal, or a challenge from Azure.
func fetch(ctx context.Context, cred azcore.TokenCredential, scope, claims string) (*Token, error) {
	o := policy.TokenRequestOptions{
		Scopes: []string{scope},
		Claims: claims,
		// Always, because MSAL keeps CAE tokens and others in separate caches.
		EnableCAE: true,
	}
	at, err := cred.GetToken(ctx, o)
	if claims == forced && refusesClaims(ctx, err) {
		o.Claims = ""
		at, err = cred.GetToken(ctx, o)
	}
	if err != nil {
		return nil, err
	}
	return checked(at, time.Now())
}

// refusesClaims reports whether err may mean that the credential takes no
// claims, as the CLI credentials say in various ways; these cache nothing, so
// a call without claims is a fresh one. An AuthenticationFailedError is Entra's
// or the network's: a second call would be answered from MSAL's cache and so
// hide the outage.
func refusesClaims(ctx context.Context, err error) bool {
	_, failed := errors.AsType[*azidentity.AuthenticationFailedError](err)
	return err != nil && !failed && ctx.Err() == nil
}

// checked turns what the credential returned into a Token, if it is one: a 200
// with an empty body has been taken for a token elsewhere.
func checked(at azcore.AccessToken, now time.Time) (*Token, error) {
	switch {
	case at.Token == "":
		return nil, errors.New("the credential answered without a token")
	case at.ExpiresOn.IsZero():
		return nil, errors.New("the credential answered with a token that has no expiry")
	case !now.Before(at.ExpiresOn.Round(0)):
		return nil, fmt.Errorf("the credential answered with a token that expired at %s, while this machine's clock says %s: "+
			"compare the clock with the real time", at.ExpiresOn.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return NewToken(at.Token, at.ExpiresOn), nil
}
