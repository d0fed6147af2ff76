"use strict";
// Each player is a button and a place on its pictures; without this script it is what the browser offers.
const clock = (seconds) => {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
};
for (const sound of document.querySelectorAll("[data-sound]")) {
  const audio = sound.querySelector("audio");
  const button = sound.querySelector("button");
  const place = sound.querySelector("input");
  const time = sound.querySelector(".time");
  const length = Number(sound.dataset.length);
  const show = () => {
    sound.classList.toggle("begun", audio.currentTime > 0);
    const now = Math.min(audio.currentTime, length);
    place.value = now;
    place.setAttribute("aria-valuetext", `${clock(now)} of ${clock(length)}`);
    time.textContent = clock(now);
  };
  const follow = () => {
    show();
    if (!audio.paused) requestAnimationFrame(follow);
  };
  const changed = () => {
    sound.classList.toggle("sounds", !audio.paused);
    button.setAttribute("aria-label", `${audio.paused ? "Play" : "Pause"} ${sound.dataset.name}`);
  };
  // what stops it before it began rejects the promise, and is no fault
  const toggle = () => (audio.paused ? audio.play().catch(changed) : audio.pause());
  audio.controls = false;
  sound.querySelector(".control").hidden = place.hidden = false;
  button.addEventListener("click", toggle);
  place.addEventListener("input", () => {
    audio.currentTime = Number(place.value);
    show();
  });
  place.addEventListener("keydown", (event) => {
    const far = Math.min(5, length / 10);
    const step = { ArrowLeft: -far, ArrowDown: -far, ArrowRight: far, ArrowUp: far }[event.key];
    if (event.key === " ") toggle();
    else if (step) {
      audio.currentTime = Math.min(Math.max(audio.currentTime + step, 0), length);
      show();
    } else return;
    event.preventDefault();
  });
  audio.addEventListener("play", () => {
    for (const other of document.querySelectorAll("audio")) if (other !== audio) other.pause();
    changed();
    follow();
  });
  audio.addEventListener("pause", changed);
  audio.addEventListener("error", () => {
    time.textContent = "cannot be played here";
  });
  audio.addEventListener("ended", () => {
    audio.currentTime = 0;
    changed();
    show();
  });
  show();
}
// Paper cannot be unfolded.
const folded = [];
addEventListener("beforeprint", () => {
  for (const one of document.querySelectorAll("details:not([open])")) {
    one.open = true;
    folded.push(one);
  }
});
addEventListener("afterprint", () => {
  while (folded.length) folded.pop().open = false;
});
