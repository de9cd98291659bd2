// Which colours: as the system has them, or as the reader chose. A classic script in the head, so
// that a page is never painted in the wrong colours first.
(() => {
  const KEY = "eram-theme";
  const CHOICES = ["system", "light", "dark"];

  function read() {
    try {
      const kept = localStorage.getItem(KEY);
      return CHOICES.includes(kept) ? kept : "system";
    } catch {
      return "system"; // storage may be forbidden
    }
  }

  function apply(choice) {
    document.documentElement.dataset.theme = choice;
  }

  function choose(choice) {
    try {
      localStorage.setItem(KEY, choice);
    } catch {
      // Then it holds until the page is left.
    }
    apply(choice);
  }

  apply(read());
  window.eramTheme = {
    get current() {
      return document.documentElement.dataset.theme;
    },
    next() {
      return CHOICES[(CHOICES.indexOf(this.current) + 1) % CHOICES.length];
    },
    choose,
  };
})();
