// Lists what somebody who cannot see well, or at all, would trip over on a page.
() => {
    const faults = [], seen = (at) => at.checkVisibility() && !at.closest("[aria-hidden=true]");
    const refer = (at, name) => (at.getAttribute(name) ?? "").split(" ").filter(Boolean);
    const nameOf = (at) => at.getAttribute("aria-label") || at.getAttribute("alt")
        || refer(at, "aria-labelledby").map((id) => document.getElementById(id)?.textContent).join(" ").trim()
        || [...(at.labels ?? [])].map((label) => label.textContent).join(" ").trim()
        || (at.matches("a, button, label") ? at.textContent.trim() : "");
    const tell = (what, at) => faults.push(`${what}: ${at.outerHTML.slice(0, 100)}`);
    for (const at of document.querySelectorAll("a, button, input, [role], section, svg[role=img]")) {
        if (seen(at) && !at.matches("[role=alert], [role=status]") && !nameOf(at)) tell("no name", at);
    }
    for (const at of document.querySelectorAll("img:not([alt])")) tell("no alt", at);
    for (const at of document.querySelectorAll("svg:not([aria-hidden=true]):not([role=img])")) tell("svg", at);
    for (const at of document.querySelectorAll("[role=meter]")) {
        if (!at.hasAttribute("aria-valuenow") || !at.hasAttribute("aria-valuetext")) tell("no value", at);
    }
    for (const name of ["aria-labelledby", "aria-controls", "for"]) {
        for (const at of document.querySelectorAll(`[${name}]`)) {
            if (refer(at, name).some((id) => !document.getElementById(id))) tell(`${name} leads nowhere`, at);
        }
    }
    const ids = [...document.querySelectorAll("[id]")].map((at) => at.id);
    if (new Set(ids).size !== ids.length) faults.push("two elements have the same id");
    if (!document.documentElement.lang) faults.push("no language");
    const levels = [...document.querySelectorAll("h1, h2, h3")].filter(seen).map((at) => Number(at.tagName[1]));
    if (levels.filter((level) => level === 1).length !== 1) faults.push("not one h1");
    levels.forEach((level, n) =>
        n && level > levels[n - 1] + 1 && faults.push(`h${level} after h${levels[n - 1]}`));
    for (const at of document.querySelectorAll("a, button, input")) {
        const { width, height } = at.getBoundingClientRect();
        if (seen(at) && !at.matches(".skip, [type=checkbox]") && Math.min(width, height) < 24) tell("too small", at);
    }

    const rgba = (text) => { const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number); return [r, g, b, a]; };
    const over = ([r, g, b, a], [x, y, z]) => [r * a + x * (1 - a), g * a + y * (1 - a), b * a + z * (1 - a), 1];
    const light = (colour) => {
        const [r, g, b] = colour.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const at = walker.currentNode.parentElement, words = walker.currentNode.textContent.trim();
        if (!words || !at.checkVisibility() || at.closest("script, noscript, .visually-hidden, .sprite")) continue;
        const chain = [];
        for (let up = at; up; up = up.parentElement) chain.unshift(up);
        let ground = [255, 255, 255, 1], opacity = 1;
        for (const up of chain) {
            ground = over(rgba(getComputedStyle(up).backgroundColor), ground);
            opacity *= Number(getComputedStyle(up).opacity);
        }
        const style = getComputedStyle(at), ink = rgba(at.closest("svg") ? style.fill : style.color);
        const pair = [light(over([...ink.slice(0, 3), ink[3] * opacity], ground)), light(ground)].sort((a, b) => a - b);
        const contrast = (pair[1] + 0.05) / (pair[0] + 0.05), size = parseFloat(style.fontSize);
        const needed = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
        if (contrast < needed) faults.push(`contrast ${contrast.toFixed(2)} of “${words.slice(0, 30)}”`);
    }
    return faults;
}
