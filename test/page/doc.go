// Package page looks at the status page with a real browser, headless Chromium.
//
// What a browser does with the page cannot be told from the page's text: what
// its content security policy lets through, whether its script keeps it alive,
// whether it fits a phone and can be read in the dark.
//
// PAGE_SCREENSHOTS names a folder for pictures of what the tests look at.
package page
