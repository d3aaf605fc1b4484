// Times are shown on the user's own clock: the browser knows which one that is.

document.getElementById("time-zone").value = Intl.DateTimeFormat().resolvedOptions().timeZone;
